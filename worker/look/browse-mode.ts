/** `original`: as in the file; `views`: and both views; `pipeline`: one view, step by step. */
export const BROWSE_MODES = ["original", "views", "pipeline"] as const;
export type BrowseMode = (typeof BROWSE_MODES)[number];
