//! An interpreter with one thread, made up in this process's own memory, for tests of what reads
//! it. Laid out as 3.12 is.

use super::layout::GilPlace;
use super::{FrameLayout, Interpreter, Layout, Version};
use crate::target::Memory;
use crate::units::{Address, Pid};

/// `native_thread_id` of the thread.
pub(super) const THREAD_ID: u32 = 4242;

const CODE_TYPE: u64 = 0x5000;

// Indices of 8-byte words.
const RUNTIME: usize = 0;
const INTERPRETER: usize = 16;
const THREAD: usize = 32;
const CFRAME: usize = 72;
const CODE: usize = 80;
const FRAMES: usize = 128;
const FRAME_WORDS: usize = 10;

pub(super) struct Fake {
    words: Vec<u64>,
}

/// One of its frames.
pub(super) struct FakeFrame<'a>(&'a mut [u64]);

impl Fake {
    /// With so many frames, each at its own instruction: the leaf at 0, the next one at 1.
    pub(super) fn new(frames: usize) -> Self {
        let mut fake = Self { words: vec![0; FRAMES + FRAME_WORDS * frames + 32] };
        let address = |index| fake.words.as_ptr() as u64 + 8 * index as u64;
        let at = [INTERPRETER, THREAD, CFRAME, CODE].map(address);
        let frame_at: Vec<u64> = (0..frames).map(|n| address(FRAMES + n * FRAME_WORDS)).collect();
        let [interpreter, thread, cframe, code] = at;
        fake.words[RUNTIME + 5] = interpreter;
        fake.words[INTERPRETER + 9] = thread;
        fake.words[THREAD + 2] = interpreter;
        fake.words[THREAD + 7] = cframe;
        fake.words[THREAD + 18] = THREAD_ID.into();
        fake.words[CFRAME] = frame_at.first().copied().unwrap_or(0);
        fake.words[CODE + 1] = CODE_TYPE;
        fake.words[CODE + 16] = 0x6000;
        for n in 0..frames {
            let mut frame = fake.frame(n);
            frame.executable(code);
            frame.previous(frame_at.get(n + 1).copied().unwrap_or(0));
            frame.0[7] = code + 192 + 2 * n as u64;
        }
        fake
    }

    pub(super) fn memory(&self) -> Memory {
        Memory::open(Pid(std::process::id())).expect("own memory")
    }

    pub(super) fn python(&self) -> Interpreter {
        Interpreter {
            version: Version(0x030c_01f0),
            file: String::new(),
            layout: Layout {
                free_threaded: false,
                parking_lot: false,
                interpreters_head: 40,
                interpreter_next: 0,
                gil: GilPlace::Interpreter(384),
                ob_type: 8,
                tp_name: 24,
                tp_flags: 168,
                object_header: 16,
                runtime_size: 128,
                interpreter_size: 0,
                gc_collecting: None,
                thread_state: None,
            },
            runtime: Address(self.address(RUNTIME)),
            type_type: Address(0x4000),
            code_type: Address(CODE_TYPE),
            interpreters: vec![Address(self.address(INTERPRETER))],
            gils: vec![],
            frames: Ok(FrameLayout::v3_12()),
            frames_checked: false,
        }
    }

    pub(super) fn thread(&self) -> Address {
        Address(self.address(THREAD))
    }

    pub(super) fn code(&self) -> u64 {
        self.address(CODE)
    }

    pub(super) fn next_thread(&mut self, next: u64) {
        self.words[THREAD + 1] = next;
    }

    pub(super) fn frame_address(&self, n: usize) -> u64 {
        self.address(FRAMES + n * FRAME_WORDS)
    }

    pub(super) fn frame(&mut self, n: usize) -> FakeFrame<'_> {
        let begin = FRAMES + n * FRAME_WORDS;
        FakeFrame(&mut self.words[begin..begin + FRAME_WORDS])
    }

    fn address(&self, index: usize) -> u64 {
        self.words.as_ptr() as u64 + 8 * index as u64
    }
}

impl FakeFrame<'_> {
    pub(super) fn executable(&mut self, word: u64) {
        self.0[0] = word;
    }

    pub(super) fn previous(&mut self, word: u64) {
        self.0[1] = word;
    }

    /// Byte 70.
    pub(super) fn owner(&mut self, owner: u8) {
        self.0[8] = u64::from(owner) << 48;
    }
}
