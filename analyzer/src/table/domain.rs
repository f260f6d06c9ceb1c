//! Whose allocator a block comes from.

use heaptape_format::AllocApi;
use serde::Serialize;

/// An allocator. Every block belongs to the outermost one that was asked for it, and is counted there alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Domain {
    /// The C library's.
    #[serde(rename = "malloc")]
    Malloc,
    /// `PyMem_RawMalloc` and its kin.
    #[serde(rename = "python raw")]
    PyRaw,
    /// `PyMem_Malloc` and its kin.
    #[serde(rename = "python mem")]
    PyMem,
    /// `PyObject_Malloc` and its kin.
    #[serde(rename = "python obj")]
    PyObj,
}

impl Domain {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Domain; 4] = [Domain::Malloc, Domain::PyRaw, Domain::PyMem, Domain::PyObj];

    /// The one that an entry point belongs to.
    pub const fn of(api: AllocApi) -> Domain {
        match api {
            AllocApi::PyRaw => Domain::PyRaw,
            AllocApi::PyMem => Domain::PyMem,
            AllocApi::PyObj => Domain::PyObj,
            _ => Domain::Malloc,
        }
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Domain::Malloc => "malloc",
            Domain::PyRaw => "python raw",
            Domain::PyMem => "python mem",
            Domain::PyObj => "python obj",
        }
    }
}
