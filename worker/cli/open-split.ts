import type { CliContext } from "../../proto/cli/cli-context.ts";
import { formatCount } from "../../proto/cli/format.ts";
import { progressBar } from "../../proto/cli/progress-bar.ts";
import type { DataRecipe } from "../../proto/recipe.ts";
import { type Dataset, openDataset } from "../data/dataset.ts";
import type { SplitName } from "../data/invalid-data.ts";

/**
 * Opens a data set for a command. While the images of a large one are listed, a terminal shows how
 * far that has come.
 *
 * @throws {FleetError} DATA_INVALID
 */
export async function openSplit(
  { stderr }: CliContext,
  data: DataRecipe,
  split: SplitName,
): Promise<Dataset> {
  let isShown = false;
  const endLine = (): void => {
    if (isShown) stderr.write("\n");
    isShown = false;
  };
  try {
    return await openDataset(data, split, {
      onProgress: ({ images, share }) => {
        if (!stderr.isTTY) return;
        const figures = [`${formatCount(images)} images`];
        const bar = progressBar({ head: "indexing", share, figures, columns: stderr.columns });
        stderr.write(`\r${bar}`);
        isShown = true;
      },
      onNotKept: (reason) => {
        endLine();
        stderr.write(`note: the list of images is not kept: ${reason}\n`);
      },
    });
  } finally {
    endLine();
  }
}
