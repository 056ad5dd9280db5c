/** Version of the two .proto files. Raised whenever an older peer would misread a message. */
export const PROTOCOL_VERSION = 3;

/** Version of this package; a test holds it equal to package.json. */
export const SOFTWARE_VERSION = "0.1.0";
