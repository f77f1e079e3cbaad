// The job's overview: charts.
import { need, pageData } from "./dom";
import { Board, type BoardData } from "./charts/board";

new Board(pageData<BoardData>("board"), need("#charts")).start();
