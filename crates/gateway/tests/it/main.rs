//! The gateway as a library, for what a process cannot be made to show from outside: a panic inside a request.

mod panic;
