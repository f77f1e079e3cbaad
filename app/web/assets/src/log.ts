// The job's log page.
import { need } from "./dom";
import { LogTail } from "./logtail";

new LogTail(need("#log")).start();
