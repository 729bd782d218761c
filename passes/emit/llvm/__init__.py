"""The writer of LLVM text: functions over a record of what is written so far."""
