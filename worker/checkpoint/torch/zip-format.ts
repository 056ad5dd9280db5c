/** The parts of the zip format that PyTorch's files use: signatures, sizes, flags. */

export const LOCAL_SIGNATURE = 0x04034b50;
export const CENTRAL_SIGNATURE = 0x02014b50;
export const END_SIGNATURE = 0x06054b50;
export const ZIP64_LOCATOR_SIGNATURE = 0x07064b50;
export const ZIP64_END_SIGNATURE = 0x06064b50;

/** Of each record, without the names and extra fields behind it. */
export const LOCAL_BYTES = 30;
export const CENTRAL_BYTES = 46;
export const END_BYTES = 22;
export const ZIP64_LOCATOR_BYTES = 20;
export const ZIP64_END_BYTES = 56;

export const STORED = 0;
export const FLAG_ENCRYPTED = 1;
export const FLAG_UTF8 = 1 << 11;
/** Id of the extra field with 64-bit sizes. */
export const ZIP64_EXTRA = 1;
/** What stands where a number is in the zip64 field instead. */
export const IN_ZIP64_16 = 0xffff;
export const IN_ZIP64_32 = 0xffffffff;
