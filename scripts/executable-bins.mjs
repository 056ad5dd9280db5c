// tsc writes files without the executable bit; npm sets it only when it links a bin at install.
import { chmodSync } from "node:fs";

for (const bin of ["dist/coordinator/main.js", "dist/worker/main.js"]) chmodSync(bin, 0o755);
