// What TypeScript has to know of the .mjs beside the module net.wasm, a net compiled by ncc.

/** What comes out: arrays of the net's own dtype. */
export type Reals = Float32Array;
/** What goes in: numbers, converted to the net's dtype; rows one after another, or an array each. */
export type Numbers = ArrayLike<number> | ArrayLike<ArrayLike<number>>;
export type Source = string | URL | Response | ArrayBuffer | ArrayBufferView | WebAssembly.Module;

/** The net of a module: by default of net.wasm, beside the .mjs. */
export function load(source?: Source | Promise<Source>): Promise<Net>;

export class Net {
    constructor(module: WebAssembly.Module);
    readonly inputs: number;
    readonly outputs: number;
    readonly dtype: "f32" | "f64";
    readonly numerics: string;
    readonly nParams: number;
    /** Numbers of the state of a stream; 0 of a net that keeps none. */
    readonly nStates: number;
    readonly exports: WebAssembly.Exports;

    /** The canonical parameters; null where they have no values or are constants of the code. */
    get params(): Reals | null;
    set params(values: Numbers);

    /** y of one sample or of a batch, row after row; of a net with a state, the next step. */
    forward(x: Numbers): Reals;
    /** y, and the pullback: dy to [dx, dparams], the gradients of sum(y * dy). */
    vjp(x: Numbers): [y: Reals, pullback: (dy: Numbers) => [dx: Reals, dparams: Reals]];
    /** The pullback of `vjp`, at x and with the parameters as they are. */
    backward(x: Numbers, dy: Numbers): [dx: Reals, dparams: Reals];
    /** y[k] of x[k] with params[k]; of a module made with --each. */
    each(x: Numbers, params: Numbers): Reals;

    /** A step of training, of a module made with --train; the mean loss before it. */
    trainStep(x: Numbers, target: Numbers, rate: number): number;
    /** What the optimizer keeps from step to step; null begins anew. */
    get optimizer(): Reals;
    set optimizer(values: Numbers | null);

    /** What the next step reads: nStates numbers a stream, all 0 at first. */
    get state(): Reals;
    set state(values: Numbers);
    /** The next call is the first step again. */
    reset(): void;
    /** y of steps one after another, of one stream or of several side by side. */
    steps(xs: Numbers, streams?: number | null): Reals;
}
