//! The pool of chunks: taking back what nobody uses, waking who waits.

use super::Drain;
use crate::host::Host;
use heaptape_shm::NONE;
use std::sync::atomic::Ordering;

impl<H: Host> Drain<H> {
    /// Wakes threads that wait for space, as many as there is space for: thousands that wake for a few chunks would leave the collector no time to free more.
    pub(super) fn wake_waiters(&self) {
        let control = self.segment.control();
        let free = control.free_chunks();
        if free > 0 && control.waiters.load(Ordering::SeqCst) != 0 {
            control.returned.fetch_add(1, Ordering::SeqCst);
            self.scribe.host.wake(&control.returned, free);
        }
    }

    /// When chunks are short, takes those away that threads hold without using them. A thread that wants to write again takes another.
    pub fn reclaim(&mut self) {
        let control = self.segment.control();
        if control.free_chunks() * 4 >= self.segment.geometry().chunks {
            return;
        }
        let mut begun = false;
        for stream in &mut self.streams {
            if stream.detaching || !stream.holds_idle_chunk() {
                continue;
            }
            if let Some(slot) = self.segment.threads().get(stream.index as usize) {
                stream.detaching = stream.consumer().detach(slot);
                begun |= stream.detaching;
            }
        }
        if begun {
            self.scribe.host.barrier();
        }
        for stream in &mut self.streams {
            if let Some(slot) = self
                .segment
                .threads()
                .get(stream.index as usize)
                .filter(|_| stream.detaching)
            {
                stream.detaching = !stream.consumer().detached(&self.segment, slot);
            }
        }
        self.wake_waiters();
    }

    /// Gives back every chunk of a slot whose thread is gone: the one being read, and those that it had taken but not yet linked when it was killed.
    pub(super) fn free_chunks_of(&mut self, index: u32) {
        let control = self.segment.control();
        for chunk in 0..self.segment.geometry().chunks {
            let free = control.free[chunk as usize / 64].load(Ordering::Acquire) & (1 << (chunk % 64)) != 0;
            let Some(header) = self.segment.chunk(chunk).filter(|_| !free) else {
                continue;
            };
            if header.owner.load(Ordering::Acquire) == index {
                header.owner.store(NONE, Ordering::Relaxed);
                control.give_chunk(chunk);
            }
        }
    }
}
