// The job's overview: charts, and the end of the log.
import { need, pageData } from "./dom";
import { LogTail } from "./logtail";
import { Board, type BoardData } from "./charts/board";

new Board(pageData<BoardData>("board"), need("#charts")).start();
new LogTail(need("#log")).start();
