//! Programs that run when user space reads their file, not when something happens.

mod task;
