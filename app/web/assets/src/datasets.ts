// The list of datasets.
import { startUpload } from "./upload";

startUpload();
