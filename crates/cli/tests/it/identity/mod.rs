//! Identity against issuers and libraries that nobody here wrote, in front of a real service.

mod issuers;
mod libraries;
