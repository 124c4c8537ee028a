//! Finding the interpreter in a live process.

use tracer_common::config::MAX_GILS;
use tracer_common::stack::{FrameOffsets, MAX_INTERPRETERS, NO_FIELD, NO_FRAME_FIELD};
use tracer_common::{InterpreterConfig, StackConfig};

use super::layout::GilPlace;
use super::thread_states::interpreters;
use super::verify::verify;
use super::{FrameLayout, Layout, LayoutError, Version};
use crate::fault::Fault;
use crate::target::{Image, Memory, Process};
use crate::units::{Address, Pid};

/// What a look at the process gave.
#[derive(Debug)]
pub enum Detected {
    /// A CPython with a known layout.
    Interpreter(Box<Interpreter>),
    /// A CPython that has not come far enough (`_PyRuntime` has no interpreter yet).
    NotYet,
    /// A CPython of which nothing but the version is known, and why.
    UnknownLayout {
        /// Its version, if it has one.
        version: Option<Version>,
        /// Why its layout is not known.
        why: LayoutError,
    },
    /// No CPython.
    NotCPython,
}

/// A CPython in a live process.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Its version.
    pub version: Version,
    /// The file that holds it.
    pub file: String,
    /// Where things are.
    pub layout: Layout,
    /// Address of `_PyRuntime`.
    pub runtime: Address,
    /// Address of `PyType_Type`.
    pub type_type: Address,
    /// Address of `PyCode_Type`; 0 if the file doesn't export it (then there are no `frames`).
    pub code_type: Address,
    /// The interpreter states that there were: the main one and subinterpreters (PEP 684, 734).
    pub interpreters: Vec<Address>,
    /// The GIL structs, one per interpreter that has its own.
    pub gils: Vec<Address>,
    /// Where threads and frames are, or why that is not known: then there are lock names, and no
    /// Python stacks.
    pub frames: Result<FrameLayout, LayoutError>,
    /// The process was seen to keep its threads and frames there; false also if it was too young
    /// to tell, and then [`super::verify()`] can tell later.
    pub frames_checked: bool,
}

/// `sys.setswitchinterval` of more than a minute is taken for garbage (microseconds).
const MAX_SWITCH_INTERVAL: u64 = 60_000_000;

/// Looks for a CPython in a process.
///
/// # Errors
/// [`Fault`] if the process is gone or may not be looked at. Being no CPython is no error here.
pub fn detect(process: &Process) -> Result<Detected, Fault> {
    const SYMBOLS: [&str; 4] = ["_PyRuntime", "Py_Version", "PyType_Type", "PyCode_Type"];
    let pid = process.pid;
    for file in process.interpreter_candidates()? {
        let Ok(image) = Image::read(&file, &SYMBOLS) else { continue };
        let Some(runtime) = image.address("_PyRuntime") else { continue };
        let memory = open_memory(pid)?;
        let Some(version) =
            image.address("Py_Version").and_then(|at| memory.half_word(at)).map(Version)
        else {
            // Py_Version is exported since 3.11.
            let why = LayoutError::UnknownVersion("before 3.11".to_owned());
            return Ok(Detected::UnknownLayout { version: None, why });
        };
        let size = image.size("_PyRuntime").unwrap_or(0);
        let layout = match Layout::read(&memory, runtime, size, version) {
            Ok(layout) => layout,
            Err(why) => return Ok(Detected::UnknownLayout { version: Some(version), why }),
        };
        let type_type = image.address("PyType_Type").unwrap_or_default();
        let interpreters = interpreters(&memory, runtime, &layout);
        let gils = match find_gils(&memory, runtime, &interpreters, &layout, version) {
            Ok(Some(gils)) => gils,
            Ok(None) => return Ok(Detected::NotYet),
            Err(why) => return Ok(Detected::UnknownLayout { version: Some(version), why }),
        };
        let file = file.path.display().to_string();
        let mut python = Interpreter {
            version,
            file,
            layout,
            runtime,
            type_type,
            code_type: image.address("PyCode_Type").unwrap_or_default(),
            interpreters,
            gils,
            frames: FrameLayout::read(&memory, runtime, version),
            frames_checked: false,
        };
        match verify(&memory, pid, &python) {
            Ok(checked) => python.frames_checked = checked,
            Err(why) => python.frames = Err(why),
        }
        return Ok(Detected::Interpreter(Box::new(python)));
    }
    Ok(Detected::NotCPython)
}

fn open_memory(pid: Pid) -> Result<Memory, Fault> {
    Memory::open(pid).map_err(|error| {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            Fault::NotPermitted(format!(
                "the memory of process {} may not be read (CAP_SYS_PTRACE): run lockwatt as root",
                pid.0
            ))
        } else {
            Fault::NotTraceable(format!("process {} ended while it was looked at", pid.0))
        }
    })
}

/// The GIL structs; `None` while there is no interpreter.
fn find_gils(
    memory: &Memory,
    runtime: Address,
    interpreters: &[Address],
    layout: &Layout,
    version: Version,
) -> Result<Option<Vec<Address>>, LayoutError> {
    let at = |base: Address, offset: u64| Address(base.0.wrapping_add(offset));
    if interpreters.is_empty() {
        return Ok(None);
    }
    let mut gils = Vec::new();
    for &interpreter in interpreters {
        let gil = match layout.gil {
            GilPlace::Runtime(offset) => Some(at(runtime, offset)),
            GilPlace::Interpreter(offset) => {
                memory.word(at(interpreter, offset)).filter(|&gil| gil != 0).map(Address)
            }
        };
        let Some(gil) = gil else { return Ok(None) };
        if !gils.contains(&gil) {
            let interval = memory.word(at(gil, layout.gil_layout().interval)).unwrap_or(u64::MAX);
            if interval == 0 {
                return Ok(None); // not initialised yet: the default is 5000
            }
            if interval > MAX_SWITCH_INTERVAL {
                return Err(LayoutError::Insane {
                    version: version.to_string(),
                    what: "the GIL's switch interval",
                    value: interval,
                });
            }
            gils.push(gil);
        }
    }
    Ok(Some(gils))
}

impl Interpreter {
    /// What the kernel side needs to know of it.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "Layout checked these to be small")]
    pub fn kernel_config(&self) -> InterpreterConfig {
        let gil = self.layout.gil_layout();
        let mut config = InterpreterConfig {
            valid: 1,
            free_threaded: u32::from(self.layout.free_threaded),
            parking_lot: u32::from(self.layout.parking_lot),
            gil_count: self.gils.len().min(MAX_GILS) as u32,
            gils: [0; MAX_GILS],
            gil_cond: gil.cond as u32,
            gil_switch_cond: gil.switch_cond as u32,
            gil_end: gil.size as u32,
            ob_type: self.layout.ob_type as u32,
            lock_mutex: self.layout.object_header as u32,
            _pad: 0,
            // The main interpreter is at the end of the list.
            gc_collecting: self
                .interpreters
                .last()
                .zip(self.layout.gc_collecting)
                .map_or(0, |(interpreter, offset)| interpreter.0.wrapping_add(offset)),
            type_type: self.type_type.0,
        };
        for (slot, gil) in config.gils.iter_mut().zip(&self.gils) {
            *slot = gil.0;
        }
        config
    }

    /// What the kernel side needs in order to walk Python stacks; `None` if `frames` is an error.
    /// Of more than [`MAX_INTERPRETERS`] interpreters the newest are taken, and the main one.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the layouts checked these to be small")]
    pub fn stack_config(&self) -> Option<StackConfig> {
        let FrameLayout { interpreter, thread, frame, code, ob_type, .. } =
            self.frames.as_ref().ok()?;
        let optional = |offset: Option<u64>| offset.map_or(NO_FIELD, |offset| offset as u32);
        let gil = self.layout.gil_layout();
        let mut config = StackConfig {
            valid: 1,
            interpreter_count: self.interpreters.len().min(MAX_INTERPRETERS) as u32,
            interpreters: [0; MAX_INTERPRETERS],
            code_type: self.code_type.0,
            threads_head: interpreter.threads_head as u32,
            code_generation: optional(interpreter.code_generation),
            tlbc_generation: optional(interpreter.tlbc_generation),
            thread_next: thread.next as u32,
            thread_interpreter: thread.interpreter as u32,
            thread_native_id: thread.native_id as u32,
            thread_frame: thread.frame as u32,
            cframe_current: optional(thread.cframe_current),
            frame: FrameOffsets {
                previous: frame.previous as u8,
                executable: frame.executable as u8,
                instruction: frame.instruction as u8,
                owner: frame.owner as u8,
                tlbc_index: frame.tlbc_index.map_or(NO_FRAME_FIELD, |offset| offset as u8),
                first_shim_owner: frame.first_shim_owner,
                locals: frame.locals as u8,
                compiled: 0,
            }
            .marked(),
            ob_type: *ob_type as u32,
            code_first_line: code.first_line as u32,
            code_qualname: code.qualname as u32,
            code_adaptive: code.adaptive as u32,
            code_tlbc: optional(code.tlbc),
            gil_holder: gil.holder as u32,
            gil_locked: gil.locked as u32,
            _pad: 0,
        };
        // `_PyRuntime.interpreters.head` is the newest; the main one is at the end of the list
        // (`PyInterpreterState_New`, Python/pystate.c), and has most threads: it goes first.
        let oldest_first = self.interpreters.last().into_iter().chain(&self.interpreters);
        let each_once = oldest_first.take(self.interpreters.len());
        for (slot, address) in config.interpreters.iter_mut().zip(each_once) {
            *slot = address.0;
        }
        Some(config)
    }
}
