// The job's overview: charts, and the end of the log.
import { need, pageData } from "./dom";
import { LogTail } from "./logtail";
import { JobBoard, type JobData } from "./charts/board";
import { followStructures } from "./structures";

new JobBoard(pageData<JobData>("board"), need("#charts")).start();
new LogTail(need("#log")).start();
followStructures();
