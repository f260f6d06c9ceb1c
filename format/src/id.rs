//! Typed ids, offsets, sizes and times: an index into one table cannot index another.

use serde::{Deserialize, Serialize};

macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// The bare number.
            #[inline]
            pub const fn get(self) -> $inner {
                self.0
            }
        }
    };
}

newtype!(
    /// An address in the recorded process.
    Address(u64)
);
newtype!(
    /// A number of bytes.
    Bytes(u64)
);
newtype!(
    /// Microseconds since the recording began (`Header::start_unix_nanos`).
    Micros(u64)
);
newtype!(
    /// Position in the global order of events; the first event of a tape is number 0.
    EventNo(u64)
);
newtype!(
    /// Dense index of a process image, in the order of `Record::Process`. An `exec` makes a new image.
    ProcessIx(u32)
);
newtype!(
    /// Dense index of a recorded thread over all processes, in the order of `Record::Thread`. Never reused.
    ThreadIx(u32)
);
newtype!(
    /// Dense index of a loaded object, in the order of `Record::Module`.
    ModuleIx(u32)
);
newtype!(
    /// Dense index of a code object of an interpreted language, in the order of `Record::Code`.
    CodeIx(u32)
);
newtype!(
    /// Dense index of a type of objects: 0 is "unknown", `Record::Type` counts up from 1.
    TypeIx(u32)
);
newtype!(
    /// Dense index of a frame within one stack generation, in the order of `Record::Stacks`.
    FrameId(u32)
);
newtype!(
    /// A node of the stack trie within one stack generation: its frame and, by its parent, all outer frames.
    /// 0 is the root, the empty stack.
    StackId(u32)
);

impl TypeIx {
    /// Not known, or the block holds no object.
    pub const UNKNOWN: TypeIx = TypeIx(0);
}

impl StackId {
    /// The empty stack: nothing was recorded, or nothing could be.
    pub const ROOT: StackId = StackId(0);
}
