//! What `demo` shows: the sample service and the config that stands before it.

pub(crate) mod sample;

/// The gateway's config for the demo. Also an example to copy from.
pub(crate) const CONFIG: &str = include_str!("demo.yaml");
