// The configuration page.
import { filterConfig } from "./configfilter";

filterConfig();
