"""WebAssembly modules: objects linked without a linker, and the JavaScript that calls them."""
