// The page of a group of replicas: its charts.
import { GroupBoard, type GroupData } from "./charts/bands";
import { need, pageData } from "./dom";

new GroupBoard(pageData<GroupData>("board"), need("#charts")).start();
