import { FleetError } from "../../../../proto/errors.ts";
import type { Tfjs } from "../kernels.ts";
import { TfjsEngine } from "../tfjs-engine.ts";
import { nativeKernels } from "./native-kernels.ts";
import type { NodeBackend } from "./node-backend.ts";

type Variant = "node" | "node-gpu";

/** The packages' name for their backend. */
const BACKEND = "tensorflow";

/** What the GPU package was built against. */
const CUDA = "CUDA 11.2 and cuDNN 8.1";

/** Packages that were tried. Node.js loads a module once, so the outcome stays what it was. */
const loads = new Map<Variant, Promise<Tfjs>>();

/**
 * Loads TensorFlow's native library.
 * @throws {FleetError} ENGINE_UNAVAILABLE, with what is missing and what to do about it
 */
export async function openNative(variant: Variant): Promise<TfjsEngine> {
  const loading = loads.get(variant) ?? load(variant);
  loads.set(variant, loading);
  const tf = await loading;
  // Loading has done so once; another engine may have been opened since.
  await tf.setBackend(BACKEND);
  const backend = nodeBackend(tf);
  const device = backend.isUsingGpuDevice ? "GPU" : "CPU";
  return new TfjsEngine({
    name: `tfjs:${variant}`,
    device: `${device}, TensorFlow ${backend.binding.TF_Version}`,
    tf,
    kernels: nativeKernels({ tf, backend }),
  });
}

async function load(variant: Variant): Promise<Tfjs> {
  const tf = await importPackage(`@tensorflow/tfjs-${variant}`);
  if (variant === "node-gpu" && !nodeBackend(tf).isUsingGpuDevice) {
    // Without a GPU the library would quietly compute on the CPU.
    tf.removeBackend(BACKEND);
    throw unavailable(
      `TensorFlow finds no GPU that it can use; it needs an NVIDIA driver, ${CUDA} ` +
        "on the library path",
    );
  }
  return tf;
}

/** The package brings its own copy of TensorFlow.js, which is the one that knows its backend. */
async function importPackage(name: string): Promise<Tfjs> {
  try {
    const { default: tf } = (await import(name)) as { readonly default: Tfjs };
    return tf;
  } catch (thrown) {
    throw unavailable(reasonFor(name, thrown), thrown);
  }
}

function nodeBackend(tf: Tfjs): NodeBackend {
  return tf.backend() as unknown as NodeBackend;
}

function reasonFor(name: string, thrown: unknown): string {
  const { message } = FleetError.from(thrown);
  const code = (thrown as { readonly code?: unknown }).code;
  if (code === "ERR_MODULE_NOT_FOUND" && message.includes(`'${name}'`))
    return (
      `the optional package ${name} is not installed (npm skips it when its download of ` +
      `TensorFlow fails); run "npm install ${name}" where that download works`
    );
  if (message.includes("native addon module"))
    return `${name} is installed without its native library; run "npm rebuild ${name}"`;
  const library = /^(\S+\.so\S*): cannot open shared object file/.exec(message)?.[1];
  if (library)
    return `${name} needs ${library}, which is not on this machine; ${cure(name, library)}`;
  return `${name} does not load: ${message.split("\n", 1)[0]}`;
}

function cure(name: string, library: string): string {
  if (library.startsWith("libtensorflow")) return `run "npm rebuild ${name}"`;
  return name.endsWith("-gpu") ? `install ${CUDA}` : "install it";
}

function unavailable(reason: string, cause?: unknown): FleetError {
  return new FleetError("ENGINE_UNAVAILABLE", reason, {}, cause);
}
