//! Ring 4: targets that are hard to look into from outside (virtual environments, embedded and
//! stripped interpreters, containers), that only look like CPython, and that bear hostile names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

#[path = "support/fight.rs"]
mod fight;
#[expect(dead_code, reason = "each test binary uses its own part")]
#[path = "support/live.rs"]
mod live;

use fight::{fight_on, folder, fought, has_in_order, sites, stacks, write};
use live::{Workload, lockwatt, path, record, report, said};

/// Records a fight named `fight` that runs as `-c` text: names and stacks must be right.
fn is_understood(pid: u32, version: &str) -> Value {
    let folder = folder();
    let trace = folder.path().join("t.lockwatt");
    record(pid, "1s", &trace, &["-q"]);
    let report = report(&trace);
    let python = report["target"]["python"].as_str().unwrap_or_default();
    assert!(python.starts_with(version.trim_end_matches('t')), "{version}: {python:?}");
    assert_eq!(report["target"]["unnamed_because"], Value::Null, "{version}");
    assert_eq!(report["target"]["stackless_because"], Value::Null, "{version}");
    fought(&report, "fight", "<string>");
    let wanted = ["fight_outer (<string>:8)", "fight_inner (<string>:4)"];
    assert!(stacks(&trace).iter().any(|stack| has_in_order(stack, &wanted)), "{version}");
    report
}

/// The folder that has an interpreter's `bin` and `lib`.
fn prefix(python: &Path) -> &Path {
    python.parent().and_then(Path::parent).expect("PREFIX/bin/python")
}

#[test]
fn a_virtual_environment_is_its_interpreter() {
    let _alone = live::alone();
    for version in ["3.11", "3.14"] {
        let folder = folder();
        let made = Command::new(live::python(version))
            .args(["-m", "venv", "--without-pip", path(folder.path())])
            .status();
        assert!(made.expect("it runs").success(), "{version}");
        let mut command = Command::new(folder.path().join("bin/python"));
        command.args(["-c", &fight_on("fight")]);
        let load = Workload::spawn(command);
        is_understood(load.pid(), version);
    }
}

/// Compiles a C program.
fn compile(folder: &TempDir, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let source = write(folder, "main.c", source);
    let program = folder.path().join(name);
    let mut command = Command::new("cc");
    command.args(options).args(["-o", path(&program), path(&source)]);
    let output = command.output().expect("these tests need a C compiler, `cc`");
    assert!(output.status.success(), "{}", said(&output));
    program
}

/// A program that is no Python until it loads the library `argv[1]`, to run the text `argv[2]`.
const EMBEDS: &str = r#"#include <dlfcn.h>
int main(int argc, char **argv) {
    void *python = dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
    if (argc != 3 || !python) return 1;
    ((void (*)(void))dlsym(python, "Py_Initialize"))();
    return ((int (*)(const char *))dlsym(python, "PyRun_SimpleString"))(argv[2]);
}
"#;

/// Shared libraries of supported CPythons: version, library, prefix.
fn libraries() -> Vec<(String, PathBuf, PathBuf)> {
    let mut folders = vec![PathBuf::from("/usr/lib/x86_64-linux-gnu"), "/usr/local/lib".into()];
    let pyenv = std::env::var_os("PYENV_ROOT")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let versions = pyenv.and_then(|root| fs::read_dir(root.join("versions")).ok());
    folders.extend(versions.into_iter().flatten().flatten().map(|entry| entry.path().join("lib")));
    let mut found = Vec::new();
    for (folder, version) in
        folders.iter().flat_map(|folder| ["3.11", "3.12", "3.13"].map(|version| (folder, version)))
    {
        let library = folder.join(format!("libpython{version}.so.1.0"));
        let prefix = folder.ancestors().skip(1).find(|prefix| {
            prefix.join("lib").join(format!("python{version}")).join("os.py").exists()
        });
        if let Some(prefix) = prefix.filter(|_| library.exists()) {
            found.push((version.to_owned(), library, prefix.to_owned()));
        }
    }
    found
}

/// Runs a fight in a program that embeds this library.
fn embedded(folder: &TempDir, library: &Path, prefix: &Path) -> Workload {
    let mut command = Command::new(compile(folder, "webserver", EMBEDS, &["-ldl"]));
    command.arg(library).arg(fight_on("fight")).env("PYTHONHOME", prefix);
    Workload::spawn(command)
}

#[test]
fn an_embedded_interpreter_is_found_in_its_library_also_a_stripped_one() {
    let _alone = live::alone();
    let found = libraries();
    let (version, library, prefix) = found.first().expect(
        "this test needs the shared library of CPython 3.11, 3.12 or 3.13 with its modules: \
         apt-get install libpython3.11, or PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.12",
    );
    for stripped in [false, true] {
        let folder = folder();
        let library = if stripped { strip(library, &folder) } else { library.clone() };
        let load = embedded(&folder, &library, prefix);
        let report = is_understood(load.pid(), version);
        let exe = report["target"]["exe"].as_str().expect("a program");
        assert!(exe.ends_with("/webserver"), "{exe}");
    }
}

/// A copy of a program or library without its symbol table.
fn strip(file: &Path, folder: &TempDir) -> PathBuf {
    let copy = folder.path().join(file.file_name().expect("a name"));
    fs::copy(file, &copy).expect("copied");
    let stripped = Command::new("strip").arg(&copy).status();
    assert!(stripped.expect("this test needs binutils, `strip`").success());
    copy
}

#[test]
fn a_stripped_interpreter_has_names_and_stacks() {
    let _alone = live::alone();
    let folder = folder();
    let python = live::python("3.11");
    let mut command = Command::new(strip(&python, &folder));
    command.args(["-c", &fight_on("fight")]).env("PYTHONHOME", prefix(&python));
    let load = Workload::spawn(command);
    is_understood(load.pid(), "3.11");
}

/// Makes the root folder of a container at `$1`, in which `$2`, an interpreter's prefix, is
/// `/only-inside`, and becomes `/only-inside/bin/$3 -c $4` in it. The mount namespace is its own:
/// nothing of this is to be seen, or left behind, outside.
const CONTAINER: &str = r#"set -e
mount -t tmpfs tmpfs "$1"
for top in /usr /lib /lib64 /bin; do
    if [ -L $top ]; then cp -P $top "$1$top"; continue; fi
    mkdir "$1$top" && mount --bind $top "$1$top"
done
mkdir "$1/proc" "$1/old" "$1/only-inside"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/only-inside"
cd "$1"
pivot_root . old
umount -l old
# For an interpreter that has its library at a path that is not here.
LD_LIBRARY_PATH=/only-inside/lib exec "/only-inside/bin/$3" -c "$4"
"#;

#[test]
fn an_interpreter_that_is_only_in_a_container_has_names_and_stacks() {
    let _alone = live::alone();
    for version in ["3.11", "3.14t"] {
        let (folder, python) = (folder(), live::python(version));
        let file = path(Path::new(python.file_name().expect("a name"))).to_owned();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CONTAINER, "sh"]);
        command.args([path(folder.path()), path(prefix(&python)), &file, &fight_on("fight")]);
        let load = Workload::spawn(command);
        let report = is_understood(load.only_child(), version);
        let exe = report["target"]["exe"].as_str().expect("a program");
        assert_eq!(exe, format!("/only-inside/bin/{file}"));
        assert!(!Path::new(exe).exists(), "{exe} is outside as well");
    }
}

const WAITS_FOR_INPUT: &str =
    "#include <unistd.h>\nint main(void) { char c; return (int)read(0, &c, 1); }\n";

/// A process that only its name makes a Python is named as such in one line, and not recorded.
fn is_refused(program: &Path) {
    // It ends with its input, however this test ends.
    let mut child = Command::new(program).stdin(Stdio::piped()).spawn().expect("it starts");
    let folder = folder();
    let trace = folder.path().join("t.lockwatt");
    let pid = child.id().to_string();
    let arguments = ["record", "-p", &pid, "-d", "1s", "-o", path(&trace)];
    let (output, doctor) = (lockwatt(&arguments), lockwatt(&["doctor", "-p", &pid]));
    let _ = (child.kill(), child.wait());
    assert!(!trace.exists(), "no trace is left behind");
    assert_eq!(output.status.code(), Some(4), "{program:?}");
    let text = harmless("record", &output);
    assert_eq!(text.lines().count(), 1, "{text:?}");
    assert!(text.contains("no CPython"), "{text:?}");
    assert_eq!(doctor.status.code(), Some(4), "{program:?}");
    harmless("doctor", &doctor);
}

#[test]
fn what_is_only_called_python_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let _alone = live::alone();
    let (folder, another) = (folder(), folder());
    let script = write(&another, "python", "#!/bin/sh\nread line\n");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("changed");
    for program in [
        compile(&folder, "python3.14", WAITS_FOR_INPUT, &["-static"]),
        compile(&folder, "python", WAITS_FOR_INPUT, &[]),
        compile(&folder, "py\nthon\u{1b}[31m;\u{9b}2J", WAITS_FOR_INPUT, &[]),
        script,
    ] {
        is_refused(&program);
    }
}

/// The kernel takes a big process's memory away for some time before it is gone: nothing can be
/// seen of it then, but what it was is known.
#[test]
fn a_target_that_is_ending_keeps_its_name() {
    const BIG: &str = "#include <stdlib.h>\n#include <string.h>\n\
        int main(void) { size_t n = 1 << 28; return !memset(malloc(n), 1, n); }\n";
    let _alone = live::alone();
    let folder = folder();
    let program = compile(&folder, "big", BIG, &[]);
    let trace = folder.path().join("t.lockwatt");
    let output = lockwatt(&["record", "-q", "-o", path(&trace), "--", path(&program)]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let target = &report(&trace)["target"];
    assert_eq!(target["exe"], path(&program));
    assert_eq!(target["cmdline"][0], path(&program));
}

/// Each fight is in a function, a file and threads with a hostile name.
const HOSTILE: &str = r#"import json, threading, time, types
SOURCE = '''def fight(lock):
    while True:
        with lock:
            time.sleep(0.002)
'''
NAMES = [
    "we\nird;\x1b[31m.py", "nul\0 bell\a csi\x9b2J \r\n", "; 5\n# x 7", "\u202eright to left\u2028",
    "Gr\xf6\xdfe;\u5b57\U0001f40d \ud800\udcff", "long;\n" * 20000, "<script>&amp;\"'</script>]]>", " \n ",
]
for name in NAMES:
    space, file = {"time": time}, name.replace("\0", "").replace("\ud800\udcff", "??")
    exec(compile(SOURCE, file, "exec"), space)
    code = space["fight"].__code__.replace(co_name=name, co_qualname=name)
    function, lock = types.FunctionType(code, space), threading.Lock()
    for _ in range(2):
        threading.Thread(target=function, args=(lock,), name=name, daemon=True).start()
print(json.dumps({}), flush=True)
time.sleep(60)
"#;

/// Text for a terminal: lines without anything that moves the cursor or reorders the text.
fn harmless(what: &str, output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("text") + &said(output);
    let harmful = |c: &char| (c.is_control() && *c != '\n') || "\u{202e}\u{2028}".contains(*c);
    let found: Vec<char> = text.chars().filter(harmful).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
    text
}

/// What lockwatt says, which must do no harm.
fn shown(arguments: &[&str]) -> String {
    let output = lockwatt(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    harmless(arguments[0], &output)
}

#[test]
fn hostile_names_are_recorded_and_shown_without_harm() {
    let _alone = live::alone();
    for version in ["3.11", "3.14t"] {
        let load = Workload::inline(version, HOSTILE);
        let folder = folder();
        let trace = folder.path().join("t.lockwatt");
        let pid = load.pid().to_string();
        shown(&["record", "-p", &pid, "-d", "1s", "-o", path(&trace)]);
        let trace = path(&trace);
        let text = shown(&["report", trace]);
        shown(&["report", trace, "--format", "json"]);
        shown(&["flamegraph", trace, "-o", "-", "--format", "svg"]);
        let folded = shown(&["flamegraph", trace, "-o", "-"]);

        let name = r"we\u{a}ird\u{3b}\u{1b}[31m.py";
        assert!(text.contains(r"we\u{a}ird;\u{1b}[31m.py"), "{version}: {text}");
        let frame = format!("{name} ({name}:3)");
        let stacks = stacks(Path::new(trace));
        assert!(stacks.iter().any(|stack| stack.contains(&frame)), "{version}: {folded}");
        let report = report(Path::new(trace));
        let threads = report["threads"].as_array().expect("threads");
        let long = "long;\n".repeat(200).chars().take(1024).collect::<String>() + "…";
        for (function, file) in [
            ("we\nird;\u{1b}[31m.py", "we\nird;\u{1b}[31m.py"),
            // A file's name can't have a NUL or half a surrogate pair.
            ("nul\0 bell\u{7} csi\u{9b}2J \r\n", "nul bell\u{7} csi\u{9b}2J \r\n"),
            ("; 5\n# x 7", "; 5\n# x 7"),
            ("\u{202e}right to left\u{2028}", "\u{202e}right to left\u{2028}"),
            ("Größe;字🐍 \u{fffd}\u{fffd}", "Größe;字🐍 ??"),
            (&long, &long),
            ("<script>&amp;\"'</script>]]>", "<script>&amp;\"'</script>]]>"),
            (" \n ", " \n "),
        ] {
            let found = sites(&report, function);
            let here = |site: &&Value| site["file"] == file && site["line"] == 3;
            assert!(found.iter().any(here), "{version} {function:?}: {:#}", report["sites"]);
            let named = threads.iter().any(|thread| thread["name"] == function);
            assert!(named, "{version} {function:?}: {threads:#?}");
        }
    }
}
