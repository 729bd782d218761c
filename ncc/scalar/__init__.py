"""What one neuron computes: tables, and formulas over an emitter."""
