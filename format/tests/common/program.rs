//! A made-up program with the habits of real ones: it works through requests on several threads, builds and drops structures, grows buffers,
//! caches some of what it makes, and its allocator gives the latest freed address of a size class out first.

use heaptape_format::*;
use std::collections::HashMap;

/// A generator of numbers (xorshift), the same on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// An allocator of one thread: seven addresses a class in the order last in, first out, the rest behind them, new ones from the top.
struct Allocator {
    top: u64,
    free: HashMap<u64, Vec<u64>>,
}

impl Allocator {
    fn class(size: u64) -> u64 {
        ((size + 8 + 15) & !15).max(32)
    }

    fn alloc(&mut self, size: u64) -> u64 {
        let class = Self::class(size);
        if let Some(address) = self.free.get_mut(&class).and_then(Vec::pop) {
            return address;
        }
        let address = self.top;
        self.top += class;
        address
    }

    fn free(&mut self, address: u64, size: u64) {
        self.free.entry(Self::class(size)).or_default().push(address);
    }
}

struct Worker {
    allocator: Allocator,
    cache: Vec<(u64, u64)>,
    calls: Vec<Op>,
}

/// Makes the events of a program with this many threads.
pub struct Program {
    random: Random,
    workers: Vec<Worker>,
    stacks: HashMap<Vec<u64>, StackId>,
    time: u64,
    /// Whether the blocks are Python's and their types are said.
    objects: bool,
}

impl Program {
    pub fn new(seed: u64, threads: usize) -> Self {
        let workers = (0..threads as u64)
            .map(|thread| Worker {
                allocator: Allocator {
                    top: 0x7f00_0000_0000 + (thread << 26),
                    free: HashMap::new(),
                },
                cache: Vec::new(),
                calls: Vec::new(),
            })
            .collect();
        Program {
            random: Random::new(seed),
            workers,
            stacks: HashMap::new(),
            time: 0,
            objects: false,
        }
    }

    /// The same, with a type said of every block: nearly always that of its stack.
    pub fn of_objects(seed: u64, threads: usize) -> Self {
        Program {
            objects: true,
            ..Program::new(seed, threads)
        }
    }

    /// A new generation of the writer has begun.
    pub fn forget_stacks(&mut self) {
        self.stacks.clear();
    }

    fn stack(&mut self, writer: &mut Writer, path: &[u64]) -> StackId {
        if let Some(&stack) = self.stacks.get(path) {
            return stack;
        }
        let mut stack = StackId::ROOT;
        for &place in path {
            let frame = writer.frame(Frame::Native {
                module: ModuleIx((place % 5) as u32),
                offset: 0x1000 + place * 0x1f3,
            });
            stack = writer.stack(stack, frame);
        }
        self.stacks.insert(path.to_vec(), stack);
        stack
    }

    /// One request: a tree of objects with texts, temporary buffers, one result in the cache.
    fn request(&mut self, writer: &mut Writer, worker: usize) {
        let kind = self.random.below(12);
        let mut path = vec![1, 2, 10 + kind];
        path.extend((0..self.random.below(8)).map(|depth| 100 + depth * 7 + kind));
        let mut made = Vec::new();
        for object in 0..4 + self.random.below(20) {
            path.push(300 + kind * 4 + object % 3);
            let stack = self.stack(writer, &path);
            self.alloc(worker, 56 + kind * 8, stack, &mut made);
            path.push(900 + kind);
            let stack = self.stack(writer, &path);
            let text = 1 + self.random.below(90);
            self.alloc(worker, text, stack, &mut made);
            for _ in 0..self.random.below(3) {
                let mut temporary = Vec::new();
                self.alloc(worker, 24 + object % 2 * 100, stack, &mut temporary);
                self.free(worker, temporary[0]);
            }
            path.truncate(path.len() - 2);
        }
        let stack = self.stack(writer, &path);
        let mut buffer = Vec::new();
        self.alloc(worker, 64, stack, &mut buffer);
        let mut size = 64;
        while self.random.below(4) > 0 && size < 1 << 20 {
            let (old, _) = buffer[0];
            let api = AllocApi::Realloc;
            if self.random.below(3) == 0 {
                size += 8;
                self.workers[worker].calls.push(Op::Resize {
                    api,
                    address: Address(old),
                    size: Bytes(size),
                    stack,
                });
            } else {
                let address = self.workers[worker].allocator.alloc(size * 2);
                self.workers[worker].allocator.free(old, size);
                size *= 2;
                self.workers[worker].calls.push(Op::MoveOut { address: Address(old) });
                let (address, size) = (Address(address), Bytes(size));
                self.workers[worker].calls.push(Op::MoveIn {
                    api,
                    address,
                    size,
                    stack,
                });
                buffer[0].0 = address.get();
            }
            buffer[0].1 = size;
        }
        self.free(worker, buffer[0]);
        if self.random.below(50) == 0 {
            let address = Address(0x7000_0000_0000 + self.random.below(1 << 20) * 4096);
            let length = Bytes(4096 * (1 + self.random.below(64)));
            self.workers[worker].calls.push(Op::Map {
                api: MapApi::Anonymous,
                address,
                length,
                stack,
            });
            self.workers[worker].calls.push(Op::Unmap { address, length });
        }
        let kept = made.swap_remove(self.random.below(made.len() as u64) as usize);
        self.workers[worker].cache.push(kept);
        if self.random.below(2) == 0 {
            made.reverse();
        }
        for block in made {
            self.free(worker, block);
        }
        if self.workers[worker].cache.len() > 3000 {
            let evicted = self.random.below(2500) as usize;
            let evicted: Vec<_> = self.workers[worker].cache.drain(evicted..evicted + 400).collect();
            for block in evicted {
                self.free(worker, block);
            }
        }
    }

    fn alloc(&mut self, worker: usize, size: u64, stack: StackId, made: &mut Vec<(u64, u64)>) {
        let address = self.workers[worker].allocator.alloc(size);
        let op = Op::Alloc {
            api: if self.objects {
                AllocApi::PyObj
            } else {
                AllocApi::Malloc
            },
            address: Address(address),
            size: Bytes(size),
            stack,
        };
        self.workers[worker].calls.push(op);
        if self.objects {
            let kind = if self.random.below(40) == 0 {
                7
            } else {
                stack.get() % 300
            };
            self.workers[worker].calls.push(Op::Typed {
                address: Address(address),
                kind: TypeIx(kind),
            });
        }
        made.push((address, size));
    }

    fn free(&mut self, worker: usize, (address, size): (u64, u64)) {
        self.workers[worker].allocator.free(address, size);
        self.workers[worker].calls.push(Op::Free {
            address: Address(address),
        });
    }

    /// The next `count` events; their stacks are those of the writer's first generation.
    pub fn events(&mut self, writer: &mut Writer, count: usize) -> Vec<Event> {
        let mut events = Vec::with_capacity(count);
        let mut waiting: Vec<std::vec::IntoIter<Op>> = self.workers.iter().map(|_| Vec::new().into_iter()).collect();
        while events.len() < count {
            let worker = self.random.below(self.workers.len() as u64) as usize;
            if waiting[worker].len() == 0 {
                self.request(writer, worker);
                waiting[worker] = std::mem::take(&mut self.workers[worker].calls).into_iter();
            }
            let run = 1 + self.random.below(if self.workers.len() > 1 { 40 } else { 4000 }) as usize;
            for op in waiting[worker].by_ref().take(run.min(count - events.len())) {
                self.time += u64::from(self.random.below(5) == 0) + u64::from(self.random.below(400) == 0) * 40;
                events.push(Event {
                    time: Micros(self.time),
                    thread: ThreadIx(worker as u32),
                    op,
                });
            }
        }
        events
    }
}
