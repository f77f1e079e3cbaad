"""An engine that trains nothing in no time, without torch: real processes, real files, planned accidents."""
