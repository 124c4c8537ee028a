//! What objects, their types and modules are called.

use super::Namer;
use crate::cpython::read_str;
use crate::target::Memory;
use crate::trace::records::Kind;
use crate::units::Address;

/// A type name longer than this is taken for garbage (bytes).
const MAX_TYPE_NAME: usize = 256;

/// `Py_TPFLAGS_TYPE_SUBCLASS` (`Include/object.h`): instances are types.
const TYPE_SUBCLASS: u64 = 1 << 31;

impl Namer {
    /// `module NAME`, after the string that a function of importlib was called with. The lock itself is
    /// gone with the import; the name lives in `sys.modules` or in the code that imports.
    pub(super) fn module_name(&self, text: Address) -> Option<String> {
        let layout = self.interpreter.as_ref()?.frames.as_ref().ok()?;
        let name = read_str(self.memory.as_ref()?, &layout.strings, text)?;
        let plausible = |c: char| c.is_alphanumeric() || c == '.' || c == '_' || c == '-';
        (!name.is_empty() && name.chars().all(plausible)).then(|| format!("module {name}"))
    }

    /// What an object is called that frames led to. It may be gone by now, and another be there: only
    /// names that it can have are taken.
    pub(super) fn subject_name(&mut self, kind: Kind, subject: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let memory = self.memory.as_ref()?;
        let object_type = memory.word(subject.field(python.layout.ob_type)?)?;
        let prefix = match (kind, self.type_name(Address(object_type))?.as_str()) {
            (Kind::Queue, "PriorityQueue" | "LifoQueue") => "queue",
            (Kind::Semaphore, "BoundedSemaphore") | (Kind::Join, "Timer") => "threading",
            _ => return None,
        };
        Some(format!("{prefix}.{}", self.type_name(Address(object_type))?))
    }

    /// `dict`; `type Account` for a type object, whose own name says more than `type`.
    pub(super) fn object_name(&self, object: Address, type_name: String) -> String {
        if type_name != "type" {
            return type_name;
        }
        let name = self.memory.as_ref().and_then(|memory| self.read_tp_name(memory, object));
        name.map_or(type_name, |name| format!("type {name}"))
    }

    /// The name of a type, if there is a type at that address.
    pub(super) fn type_name(&mut self, address: Address) -> Option<String> {
        if let Some(known) = self.types.get(&address) {
            return known.clone();
        }
        // A process that has ended can't be asked; the one that forked it may live.
        let name = self.read_type_name(self.memory.as_ref(), address);
        let name = name.or_else(|| self.read_type_name(self.parent.as_ref(), address));
        self.types.insert(address, name.clone());
        name
    }

    fn read_type_name(&self, memory: Option<&Memory>, address: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let memory = memory?;
        if address.0 == 0 || !address.0.is_multiple_of(8) {
            return None;
        }
        let field = |base: Address, offset: u64| memory.word(Address(base.0.checked_add(offset)?));
        let metatype = Address(field(address, python.layout.ob_type)?);
        let is_type = metatype == python.type_type
            || (metatype.0.is_multiple_of(8)
                && field(metatype, python.layout.ob_type)? == python.type_type.0
                && field(metatype, python.layout.tp_flags)? & TYPE_SUBCLASS != 0);
        if is_type { self.read_tp_name(memory, address) } else { None }
    }

    fn read_tp_name(&self, memory: &Memory, object: Address) -> Option<String> {
        let python = self.interpreter.as_ref()?;
        let pointer = memory.word(Address(object.0.checked_add(python.layout.tp_name)?))?;
        memory.c_string(Address(pointer), MAX_TYPE_NAME)
    }
}
