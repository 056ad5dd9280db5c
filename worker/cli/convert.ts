/** `worker convert`: weights from PyTorch's files or a checkpoint folder into PyTorch's files. */

import { type Command, Option } from "commander";
import { type CliContext, printJson, runCommand } from "../../proto/cli/cli-context.ts";
import { formatCount } from "../../proto/cli/format.ts";
import { loadRecipe } from "../../proto/cli/load-recipe.ts";
import { describeArchitecture } from "../../proto/model/infer-model.ts";
import { listFirst, type TensorMatch } from "../../proto/model/match-tensors.ts";
import { type Conversion, convertWeights } from "../checkpoint/convert-weights.ts";
import { EXPORT_STYLES, type ExportStyle } from "../checkpoint/weight-names.ts";

interface ConvertOptions {
  readonly to: ExportStyle;
  readonly model?: string;
  readonly publish?: boolean;
  readonly force?: boolean;
  readonly json?: boolean;
}

const FORMAT_NAMES = {
  torch: "PyTorch file",
  safetensors: "safetensors file",
  checkpoint: "checkpoint folder",
} as const;
const LISTED_MAX = 10;

export function registerConvert(program: Command, context: CliContext): void {
  program
    .command("convert <in> <out>")
    .description("convert weights: .pth, .pt, .safetensors or a checkpoint folder")
    .addOption(
      new Option("--to <names>", "how OUT names its tensors")
        .choices(EXPORT_STYLES)
        .default("mmpretrain"),
    )
    .option("--model <recipe>", "recipe whose model IN must hold; found out when absent")
    .option("--publish", "put the beginning of OUT's SHA-256 into its name")
    .option("--force", "overwrite OUT")
    .option("--json", "print JSON")
    .addHelpText(
      "after",
      "\nOUT ends in .pth (torch.load reads it, also with weights_only=True) or .safetensors.\n" +
        "torchvision leaves out the neck; backbone leaves out neck and head, and has no prefix.",
    )
    .action((input: string, output: string, options: ConvertOptions) =>
      runCommand(context, "info", () => convert(context, input, output, options)),
    );
}

async function convert(
  context: CliContext,
  input: string,
  output: string,
  { to, model, publish = false, force = false, json = false }: ConvertOptions,
): Promise<void> {
  const recipe = model === undefined ? undefined : await loadRecipe(model, []);
  const conversion = convertWeights(input, output, {
    style: to,
    publish,
    overwrite: force,
    model: recipe?.model,
  });
  if (json) printJson(context, conversion);
  else context.stdout.write(describeConversion(input, conversion));
}

function describeConversion(input: string, conversion: Conversion): string {
  const { input: read, model, hasNeck, outputs, match, output } = conversion;
  const parts = [
    describeArchitecture(model),
    ...(hasNeck ? [`neck ${model.neck.out} wide`] : []),
    ...(outputs === undefined ? [] : [`classifier of ${outputs} classes`]),
  ];
  const { epoch } = read.metadata;
  const lines = [
    `read     ${input}: ${FORMAT_NAMES[read.format]}, ${read.style} names, ` +
      `${read.tensors} tensors, ${formatCount(read.elements)} numbers` +
      (typeof epoch === "number" ? `, epoch ${epoch}` : ""),
    `model    ${parts.join(", ")}`,
    ...describeNames(match),
    ...(output.leftOut.length > 0 ? [`left out ${list(output.leftOut)}`] : []),
    `wrote    ${output.path}: ${output.tensors} tensors, ${formatCount(output.bytes)} bytes`,
    `sha256   ${output.sha256}`,
  ];
  return `${lines.join("\n")}\n`;
}

function describeNames({ matched, missing, unexpected, misshapen }: TensorMatch): string[] {
  const shapes = misshapen.map(
    ({ name, found, expected }) => `${name} [${found}] instead of [${expected}]`,
  );
  const others = [
    ["missing", missing],
    ["misshapen", shapes],
    ["unexpected", unexpected],
  ] as const;
  const rows = others.filter(([, names]) => names.length > 0);
  const all = rows.length === 0 ? ", nothing missing or unexpected" : "";
  return [
    `matched  ${matched.length} tensors${all}`,
    ...rows.map(([what, names]) => `${what}  ${list(names)}`),
  ];
}

function list(names: readonly string[]): string {
  return `${names.length}: ${listFirst(names, LISTED_MAX, ", ")}`;
}
