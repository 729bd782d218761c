// A net compiled by ncc, called from JavaScript: in a browser, in Node, in a worker.
//
//     import {load} from "./net.mjs";
//     const net = await load();
//     net.forward([0, 1]);              // one sample: a typed array of net.outputs numbers
//     net.forward([[0, 1], [1, 1]]);    // a batch, also as one flat array: rows one after another
//
// Numbers go in as arrays, arrays of rows or typed arrays, and come out as Float32Array (of a
// net in f64, Float64Array), always copies. Shapes that do not fit are a RangeError. The module
// says of itself what it holds, so this file is the same for every net but for the name below.

/**
 * The net of a module: a URL (by default the module beside this file), a Response, or a promise
 * of one, the bytes themselves, or a WebAssembly.Module.
 */
export async function load(source = new URL("net.wasm", import.meta.url)) {
    source = await source;
    if (source instanceof WebAssembly.Module)
        return new Net(source);
    if (typeof source === "string" || source instanceof URL) {
        const url = new URL(source, import.meta.url);
        if (url.protocol === "file:" && globalThis.process?.versions?.node) {
            const {readFile} = await import(/* @vite-ignore */ "node:fs/promises");
            source = await readFile(url);
        } else
            source = await fetch(url);
    }
    if (typeof Response !== "undefined" && source instanceof Response) {
        if (!source.ok)
            throw new Error(`${source.url}: ${source.status} ${source.statusText}`);
        source = await source.arrayBuffer();
    }
    return new Net(await WebAssembly.compile(source));
}

/** A net; its members are those of `fn = ncc.compile(net)` in Python, as JavaScript spells them. */
export class Net {
    #about;
    #Reals;
    #exports;
    #free;         // the first address that no call may write to
    #packed = 0;   // addresses of what stays there: parameters as the code wants them,
    #params = 0;   // and canonical ones
    #ready;        // whether the parameters have values
    #version = 0;  // of the parameters
    #state = null;     // what the next step reads, of
    #streams = null;   // so many streams; null: of one
    #optimizer = null;

    /** The net of a WebAssembly.Module, made in the same turn. */
    constructor(module) {
        const [about] = WebAssembly.Module.customSections(module, "ncc");
        if (!about)
            throw new TypeError("no module of ncc's");
        this.#about = JSON.parse(new TextDecoder().decode(about));
        this.#Reals = this.#about.dtype === "f32" ? Float32Array : Float64Array;
        this.#exports = new WebAssembly.Instance(module).exports;
        this.#free = this.#exports.__heap_base.value;
        const pack = this.#sizes("pack");
        this.#ready = !pack;
        if (pack) {
            this.#params = this.#take(this.nParams);
            this.#packed = this.#take(pack.packed);
            const [values] = WebAssembly.Module.customSections(module, "ncc.params");
            if (values || !this.#about.params)
                this.params = new this.#Reals(values ?? 0);
        }
    }

    get inputs() { return this.#about.inputs; }
    get outputs() { return this.#about.outputs; }
    get dtype() { return this.#about.dtype; }
    get numerics() { return this.#about.numerics; }
    get nParams() { return this.#about.params; }
    /** Numbers of the state of a stream; 0 of a net that keeps none. */
    get nStates() { return this.#sizes("reset")?.state ?? 0; }
    /** The functions of the module, and its memory, as they are. */
    get exports() { return this.#exports; }

    /** The canonical parameters, null where they have no values or are constants of the code. */
    get params() {
        return this.#ready && this.#params ? this.#at(this.#params, this.nParams).slice() : null;
    }

    set params(values) {
        if (!this.#params)
            throw new TypeError("the parameters are constants of the code");
        const given = this.#vector(values, this.nParams, "params");
        if (!given.every(Number.isFinite))
            throw new RangeError(`params holds a value that is not finite in ${this.dtype}`);
        this.#at(this.#params, this.nParams).set(given);
        this.#exports[`${this.#about.name}_pack`](this.#params, this.#packed);
        this.#ready = true;
        this.#version++;
    }

    /** y of one sample or of a batch. Of a net with a state: the next step of one stream, or of as
     * many streams as the batch has rows. */
    forward(x) {
        const [rows, n] = this.#rows(x, this.inputs, "x");
        const y = new this.#Reals((n ?? 1) * this.outputs);
        this.#call(n === null ? "forward" : "forward_batch", n, {x: rows}, this.#step(n, y));
        return y;
    }

    /** y of x, and the pullback: dy to [dx, dparams], the gradients of sum(y * dy), dparams summed
     * over the batch. It may be called at any time and again; x and the parameters are those of
     * this call. */
    vjp(x) {
        this.#needs("backward", "--backward");
        const [rows, n] = this.#rows(x, this.inputs, "x", true);
        const y = this.forward(n === null ? rows : this.#split(rows, n));
        const params = this.params, version = this.#version;
        return [y, (dy) => this.#pull(rows, n, dy, params, version)];
    }

    /** [dx, dparams] of dy at x, with the parameters as they are: the pullback of `vjp`. */
    backward(x, dy) {
        this.#needs("backward", "--backward");
        const [rows, n] = this.#rows(x, this.inputs, "x");
        return this.#pull(rows, n, dy, null, this.#version);
    }

    /** y[k] of x[k] with params[k]: as many rows of parameters as of x. */
    each(x, params) {
        this.#needs("each", "--each");
        const [rows, n] = this.#rows(x, this.inputs, "x");
        const y = new this.#Reals((n ?? 1) * this.outputs);
        const given = this.#vector(params, (n ?? 1) * this.nParams, "params");
        this.#call("each", n ?? 1, {x: rows, params: given}, {y});
        return y;
    }

    /** A step of training on a sample or a batch, with the loss and the optimizer that the module
     * was built with: the parameters and `optimizer` change. The mean loss before it. */
    trainStep(x, target, rate) {
        const sizes = this.#needs("train_step", "--train LOSS,OPTIMIZER");
        const [rows, n] = this.#rows(x, this.inputs, "x");
        const wanted = this.#vector(target, (n ?? 1) * sizes.target, "target");
        const state = this.optimizer;
        this.#call(n === null ? "train_step" : "train_step_batch", n,
            {x: rows, target: wanted, params: this.#params, lr: rate}, {state});
        this.#optimizer = state;
        this.#version++;
        return state[0];
    }

    /** What the optimizer keeps from step to step, the last loss first: to be saved, and set to go
     * on from there; null begins anew. */
    get optimizer() {
        const size = this.#needs("train_step", "--train LOSS,OPTIMIZER").state;
        return this.#optimizer?.slice() ?? new this.#Reals(size);
    }

    set optimizer(values) {
        const size = this.#needs("train_step", "--train LOSS,OPTIMIZER").state;
        this.#optimizer = values && this.#vector(values, size, "optimizer").slice();
    }

    /** What the next step reads: nStates numbers a stream, all 0 at first. Settable, to go on from
     * there. */
    get state() { return this.#state?.slice() ?? new this.#Reals(this.nStates); }

    set state(values) {
        const [rows, n] = this.#rows(values, this.nStates, "state", true);
        this.#state = rows;
        this.#streams = n;
    }

    /** The next call is the first step again, of as many streams as it has. */
    reset() { this.#state = this.#streams = null; }

    /** y of the steps of one stream, rows one after another: the same as `forward` of each. With
     * `streams`, each step has a row for each of so many streams. */
    steps(xs, streams = null) {
        const [rows, n] = this.#rows(xs, this.inputs, "xs"), count = n ?? 1;
        if (streams === null && this.#about.functions.steps) {
            const y = new this.#Reals(count * this.outputs);
            this.#call("steps", count, {x: rows}, this.#step(null, y));
            return y;
        }
        const each = streams ?? 1;
        if (count % each)
            throw new RangeError(`xs has ${count} rows, not a multiple of ${each} streams`);
        const y = new this.#Reals(count * this.outputs);
        for (let k = 0; k < count; k += each) {
            const part = rows.subarray(k * this.inputs, (k + each) * this.inputs);
            y.set(this.forward(streams === null ? part : this.#split(part, each)),
                k * this.outputs);
        }
        return y;
    }

    // What a step writes: y, and the state of so many streams.
    #step(n, y) {
        if (!this.nStates)
            return {y};
        const said = (count) => count === null ? "one stream" : `${count} streams`;
        this.#state ??= (this.#streams = n, new this.#Reals((n ?? 1) * this.nStates));
        if (this.#streams !== n)
            throw new RangeError(`the state is of ${said(this.#streams)}, x of ${said(n)}: `
                + "net.reset() begins anew");
        return {y, state: this.#state};
    }

    #pull(x, n, dy, params, version) {
        const given = this.#vector(dy, (n ?? 1) * this.outputs, "dy");
        const dx = new this.#Reals(x.length), dparams = new this.#Reals(this.nParams);
        const arrays = {x, dy: given};
        if (version !== this.#version) {
            arrays.packed = new this.#Reals(this.#sizes("pack").packed);
            this.#call("pack", null, {params}, {packed: arrays.packed});
        }
        this.#call(n === null ? "backward" : "backward_batch", n, arrays, {dx, dparams});
        return [dx, dparams];
    }

    // Call a function of `n` samples (null: it is not counted). Arrays are copied to free memory,
    // those of `made` back as well; numbers are passed as they are.
    #call(name, n, given, made) {
        const {signature, buffers, work} = this.#described(name);
        const values = {packed: this.#packed, ...given, ...made};
        if (!this.#ready && "packed" in buffers && !values.packed.length && name !== "pack")
            throw new Error("the parameters have no values: set net.params");
        const size = this.#Reals.BYTES_PER_ELEMENT;
        const places = {};
        let end = this.#free;
        for (const key of [...Object.keys(buffers), "work"]) {
            const count = key === "work" ? work : values[key].length;
            if (count === undefined)
                continue;
            places[key] = end;
            end = aligned(end + count * size);
        }
        this.#grow(end);
        const words = signature[0] === "n" ? [n] : [];
        for (const key of Object.keys(buffers)) {
            words.push(places[key] ?? values[key]);
            if (key in places)
                this.#at(places[key], values[key].length).set(values[key]);
        }
        this.#exports[`${this.#about.name}_${name}`](...words, places.work);
        for (const [key, array] of Object.entries(made))
            if (key in places)
                array.set(this.#at(places[key], array.length));
    }

    // Native.Function of ncc/machine/native.py: [signature, elements of buffers, of work].
    #described(name) {
        const [signature, buffers, work] = this.#about.functions[name];
        return {signature, buffers, work};
    }

    #sizes(name) { return this.#about.functions[name]?.[1]; }

    #needs(name, option) {
        const sizes = this.#sizes(name);
        if (!sizes)
            throw new TypeError(`the module has no ${name}: ncc build ${option} makes one`);
        return sizes;
    }

    // Memory that stays where it is, for so many reals.
    #take(count) {
        const at = this.#free;
        this.#free = aligned(at + count * this.#Reals.BYTES_PER_ELEMENT);
        this.#grow(this.#free);
        return at;
    }

    #grow(end) {
        const {memory} = this.#exports, more = end - memory.buffer.byteLength;
        if (more > 0)
            memory.grow(Math.ceil(more / 65536));
    }

    #at(address, count) { return new this.#Reals(this.#exports.memory.buffer, address, count); }

    #vector(values, count, what) {
        const [flat] = this.#flat(values);
        if (flat.length !== count)
            throw new RangeError(`${what} has ${flat.length} numbers, the net wants ${count}`);
        return flat;
    }

    // Samples as one array, and how many rows it has: null of one sample that is no row. With
    // `own`, it is nobody else's.
    #rows(values, width, what, own = false) {
        const [flat, n, size] = this.#flat(values);
        const rows = own && flat === values ? flat.slice() : flat;
        if (n === null && flat.length === width)
            return [rows, null];
        if (n !== null ? size !== width && n > 0 : !width || flat.length % width)
            throw new RangeError(`${what} has ${n === null ? "" : "rows of "}${size} numbers, `
                + `the net wants ${width}`);
        return [rows, n ?? flat.length / width];
    }

    // [one array, rows, numbers of a row]: rows is null where `values` has none.
    #flat(values) {
        if (values instanceof this.#Reals)
            return [values, null, values.length];
        if (values?.length === undefined)
            throw new TypeError("not an array of numbers");
        if (values[0]?.length === undefined)
            return [this.#Reals.from(values), null, values.length];
        const size = values[0].length, flat = new this.#Reals(values.length * size);
        for (let k = 0; k < values.length; k++) {
            if (values[k]?.length !== size)
                throw new RangeError(`row ${k} has ${values[k]?.length} numbers, row 0 ${size}`);
            flat.set(values[k], k * size);
        }
        return [flat, values.length, size];
    }

    #split(rows, n) {
        return Array.from({length: n}, (_, k) =>
            rows.subarray(k * this.inputs, (k + 1) * this.inputs));
    }
}

const aligned = (at) => Math.ceil(at / 64) * 64;
