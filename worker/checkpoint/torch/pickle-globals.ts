/**
 * The classes and functions that pickles name: those that are built here, those that no
 * checkpoint has any business with, and all others, which become stubs.
 */

import { FleetError } from "../../../proto/errors.ts";
import type { Dtype } from "../element-types.ts";
import {
  isCount,
  isCounts,
  isStorage,
  isTensor,
  type PickleGlobal,
  type PickleStorage,
  type PickleValue,
} from "./pickle-values.ts";
import { printable } from "./printable.ts";

const STORAGE_DTYPES: Readonly<Record<string, Dtype>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

/** Modules that reach outside of the interpreter, or run code that they are given. */
const DANGEROUS_MODULES = new Set(
  (
    "os posix nt sys subprocess commands popen2 shutil socket ssl http urllib requests ftplib " +
    "smtplib webbrowser importlib imp zipimport runpy pkgutil pty pdb bdb code codeop ctypes " +
    "cffi multiprocessing asyncio pickle _pickle cPickle dill cloudpickle marshal operator " +
    "_operator timeit profile cProfile doctest pip ensurepip venv tempfile"
  ).split(" "),
);
const DANGEROUS_BUILTINS = new Set(
  (
    "eval exec execfile compile __import__ open file input raw_input breakpoint getattr setattr " +
    "delattr globals locals apply reload"
  ).split(" "),
);
const DANGEROUS_NAMES = new Set([
  "io.open",
  "_io.open",
  "_io.FileIO",
  "copyreg.add_extension",
  "numpy.load",
  "numpy.testing._private.utils.runstring",
  "torch.load",
  "torch.hub.load",
  "torch.hub.load_state_dict_from_url",
  "torch.jit.load",
  "torch.utils.cpp_extension.load",
  "torch.utils.cpp_extension.load_inline",
]);

/**
 * The inert form of a name.
 *
 * @throws {FleetError} CHECKPOINT_INVALID when it can do harm in Python: no checkpoint needs it
 */
export function namedGlobal(module: string, name: string): PickleGlobal {
  const dotted = `${module}.${name}`;
  const root = module.split(".", 1)[0]!;
  const isBuiltin = root === "builtins" || root === "__builtin__";
  // A dotted name walks from one object to the next, wherever that leads.
  const steps = name.split(".");
  const isDangerous =
    [root, ...steps.slice(0, -1)].some((step) => DANGEROUS_MODULES.has(step)) ||
    DANGEROUS_NAMES.has(dotted) ||
    (isBuiltin && steps.some((step) => DANGEROUS_BUILTINS.has(step)));
  const shown = printable(dotted);
  if (!isDangerous) return { type: "global", name: shown };
  throw new FleetError(
    "CHECKPOINT_INVALID",
    `it names ${shown}, which no checkpoint needs: loading it elsewhere could run ` +
      "somebody's code. Nothing of it was run here",
    { global: shown },
  );
}

/** What calling `callee` gives, without calling anything. */
export function callGlobal(callee: PickleGlobal, args: readonly PickleValue[]): PickleValue {
  return build(callee.name, args) ?? { type: "stub", of: callee.name };
}

/** What a storage's persistent id stands for; undefined when it is another kind of id. */
export function namedStorage(id: PickleValue): PickleStorage | undefined {
  if (!Array.isArray(id) || id.length < 5 || id[0] !== "storage") return undefined;
  // A view is a part of another storage, as PyTorch had it before 0.4.
  const [, kind, key, , elements, view] = id;
  if (typeof key !== "string" || !isCount(elements) || view !== undefined) return undefined;
  const isNamed = typeof kind === "object" && "type" in kind && kind.type === "global";
  const of = isNamed ? kind.name.slice(kind.name.lastIndexOf(".") + 1) : "unknown";
  const dtype = Object.hasOwn(STORAGE_DTYPES, of) ? STORAGE_DTYPES[of] : undefined;
  return { type: "storage", key, dtype, of, elements };
}

function build(name: string, args: readonly PickleValue[]): PickleValue {
  switch (name) {
    case "collections.OrderedDict":
    case "collections.defaultdict":
    case "builtins.dict":
      // Python 3 pickles them empty and sets the items afterwards; Python 2 passes pairs.
      return new Map(Array.isArray(args[0]) ? args[0].filter(isPair) : []);
    case "torch.Size":
      return isCounts(args[0]) ? args[0] : undefined;
    case "torch._utils._rebuild_tensor":
    case "torch._utils._rebuild_tensor_v2": {
      const [storage, offset, shape, strides] = args;
      const isWhole = isStorage(storage) && isCount(offset) && isCounts(shape);
      return isWhole && isCounts(strides)
        ? { type: "tensor", storage, offset, shape, strides }
        : undefined;
    }
    case "torch._utils._rebuild_parameter":
    case "torch._utils._rebuild_parameter_with_state":
      return isTensor(args[0]) ? args[0] : undefined;
    default:
      return undefined;
  }
}

function isPair(value: PickleValue): value is [PickleValue, PickleValue] {
  return Array.isArray(value) && value.length === 2;
}
