//! The coding of an events block: columns of bytes, with everything predicted that programs and allocators do by habit.

mod decode;
mod encode;
mod habits;
mod heap;
mod layout;

pub(crate) use decode::{decode, Scratch};
pub(crate) use encode::Encoder;
