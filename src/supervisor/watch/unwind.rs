//! Stacks that were taken, understood: by the tables that every program carries for its own panics
//! (`.eh_frame`), and by the names in its file.
//!
//! What a process has mapped is noted when it begins to serve: to ask for it while one of its threads is
//! stuck in a page fault may take as long as that. Its files are read when stacks are to be understood.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use addr2line::{Loader, demangle, gimli};
use framehop::{
    CacheNative, ExplicitModuleSectionInfo, MayAllocateDuringUnwind, Module, Unwinder,
    UnwinderNative,
};
use object::{Object, ObjectSection, ObjectSegment, ReadCache, ReadRef};

use super::stacks::{Frame, Place};

/// LIMIT: files that a process may have mapped to execute.
const MODULES_MAX: usize = 64;

/// LIMIT: frames of one stack.
const FRAMES_MAX: usize = 64;

/// LIMIT: how long lines, and what was inlined, may be looked up; frames beyond have names alone.
const NAMED_WITHIN: Duration = Duration::from_secs(2);

/// LIMIT: bytes of what the kernel itself maps to execute.
const VDSO_BYTES_MAX: u64 = 64 << 10;

/// How the kernel's own is called.
const VDSO: &str = "[vdso]";

/// What a process executes.
#[derive(Debug, Default)]
pub(super) struct Program {
    modules: Vec<Mapped>,
}

/// A file that is mapped.
#[derive(Debug, PartialEq, Eq)]
struct Mapped {
    path: String,
    range: Range<u64>,
    is_executed: bool,
}

/// How addresses of a file became those of a process.
#[derive(Debug, Clone, Copy)]
struct Shift {
    mapped_at: u64,
    linked_at: u64,
}

type Unwinding = UnwinderNative<Vec<u8>, MayAllocateDuringUnwind>;

impl Program {
    /// What a process has mapped now.
    pub(super) fn of(process: i32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
        Self::parse(&maps)
    }

    fn parse(maps: &str) -> Self {
        let mut modules: Vec<Mapped> = Vec::new();
        for (path, range, is_executed) in maps.lines().filter_map(mapping) {
            match modules.last_mut().filter(|last| last.path == path) {
                Some(last) => {
                    last.range.end = range.end;
                    last.is_executed |= is_executed;
                }
                None => modules.push(Mapped {
                    path: path.to_owned(),
                    range,
                    is_executed,
                }),
            }
        }
        modules.retain(|module| module.is_executed);
        modules.truncate(MODULES_MAX);
        Self { modules }
    }

    /// Where the kernel's own is, and how long.
    pub(super) fn vdso(&self) -> Option<(u64, usize)> {
        let module = self.modules.iter().find(|module| module.path == VDSO)?;
        let bytes = (module.range.end - module.range.start).min(VDSO_BYTES_MAX);
        Some((module.range.start, bytes as usize))
    }

    /// The functions of each stack that was taken, the innermost first.
    pub(super) fn understand<E>(
        &self,
        process: i32,
        vdso: Option<&[u8]>,
        places: &[Result<Place, E>],
    ) -> Vec<Vec<Frame>> {
        let mut unwinding = Unwinding::new();
        let mut names = Names::new(self, process);
        for (number, module) in self.modules.iter().enumerate() {
            let added = match (module.path == VDSO, vdso) {
                (true, Some(bytes)) => module.add_to(&mut unwinding, bytes),
                (true, None) => None,
                (false, _) => fs::File::open(module.file(process, number))
                    .ok()
                    .and_then(|file| module.add_to(&mut unwinding, &ReadCache::new(file))),
            };
            names.shifts.push(added);
        }
        let taken = places.iter().flatten();
        taken
            .map(|place| {
                let addresses = unwound(&unwinding, place);
                let frames = addresses.into_iter().flat_map(|at| names.of(at));
                frames.take(FRAMES_MAX).collect()
            })
            .collect()
    }
}

/// The addresses that a thread is at and will come back to.
fn unwound(unwinding: &Unwinding, place: &Place) -> Vec<u64> {
    let mut cache = CacheNative::<MayAllocateDuringUnwind>::new();
    let mut word = |address| place.word(address).ok_or(());
    let mut frames = unwinding.iter_frames(place.pc, place.registers, &mut cache, &mut word);
    let mut addresses = Vec::new();
    // What cannot be followed further is the end.
    while let (true, Ok(Some(frame))) = (addresses.len() < FRAMES_MAX, frames.next()) {
        addresses.push(frame.address_for_lookup());
    }
    addresses
}

/// A line of `maps`, if a file is mapped there, or the kernel's own.
fn mapping(line: &str) -> Option<(&str, Range<u64>, bool)> {
    let mut fields = line.splitn(6, ' ');
    let (range, rights) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?.trim_start();
    let (start, end) = range.split_once('-')?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    let range = number(start)?..number(end)?;
    let is_known = path.starts_with('/') || path == VDSO;
    is_known.then_some((path, range, rights.contains('x')))
}

impl Mapped {
    /// Where the file is to be found. The program itself may have been replaced, or may be in memory alone;
    /// libraries are where the process sees them.
    fn file(&self, process: i32, number: usize) -> PathBuf {
        match number {
            0 => PathBuf::from(format!("/proc/{process}/exe")),
            _ => {
                Path::new(&format!("/proc/{process}/root")).join(self.path.trim_start_matches('/'))
            }
        }
    }

    /// Reads what is needed to unwind; `None`: it is no file of this kind.
    fn add_to<'d>(&self, unwinding: &mut Unwinding, data: impl ReadRef<'d>) -> Option<Shift> {
        let object = object::File::parse(data).ok()?;
        let linked_at = object.segments().map(|segment| segment.address()).min()?;
        let section = |name| {
            let section = object.section_by_name(name)?;
            let range = section.address()..section.address() + section.size();
            Some((range, section.data().ok()?.to_vec()))
        };
        let (eh_frame_svma, eh_frame) = section(".eh_frame").unzip();
        let (eh_frame_hdr_svma, eh_frame_hdr) = section(".eh_frame_hdr").unzip();
        let text = object.section_by_name(".text");
        let shift = Shift {
            mapped_at: self.range.start,
            linked_at: linked_at & !0xfff,
        };
        unwinding.add_module(Module::new(
            self.path.clone(),
            self.range.clone(),
            shift.mapped_at,
            ExplicitModuleSectionInfo {
                base_svma: shift.linked_at,
                text_svma: text.map(|text| text.address()..text.address() + text.size()),
                eh_frame_svma,
                eh_frame,
                eh_frame_hdr_svma,
                eh_frame_hdr,
                ..ExplicitModuleSectionInfo::default()
            },
        ));
        Some(shift)
    }
}

/// The names of addresses.
struct Names<'p> {
    program: &'p Program,
    process: i32,
    shifts: Vec<Option<Shift>>,
    loaded: BTreeMap<usize, Option<Loader>>,
    begun: Instant,
}

impl<'p> Names<'p> {
    fn new(program: &'p Program, process: i32) -> Self {
        Self {
            program,
            process,
            shifts: Vec::new(),
            loaded: BTreeMap::new(),
            begun: Instant::now(),
        }
    }

    /// The functions at an address: more than one where the others were inlined.
    fn of(&mut self, address: u64) -> Vec<Frame> {
        let mut modules = self.program.modules.iter();
        let Some(number) = modules.position(|module| module.range.contains(&address)) else {
            return vec![nameless(format!("{address:#x}"))];
        };
        let module = &self.program.modules[number];
        let shift = self.shifts[number];
        let linked = shift.map_or(0, |shift| address - shift.mapped_at + shift.linked_at);
        if shift.is_some() && module.path != VDSO {
            let file = module.file(self.process, number);
            let loader = self.loaded.entry(number);
            let loader = loader.or_insert_with(|| Loader::new(file).ok());
            let has_time = self.begun.elapsed() < NAMED_WITHIN;
            let frames = loader.as_ref();
            let frames = frames.map_or(Vec::new(), |loader| named(loader, linked, has_time));
            if !frames.is_empty() {
                return frames;
            }
        }
        let name = module.path.rsplit('/').next().unwrap_or_default();
        vec![nameless(format!("{name}+{linked:#x}"))]
    }
}

fn nameless(function: String) -> Frame {
    let at = String::new();
    Frame { function, at }
}

/// The functions at an address of a file. The last is the one that the others were inlined in, and has its full
/// name by the file's symbols; of the others the names alone are known.
fn named(loader: &Loader, address: u64, has_time: bool) -> Vec<Frame> {
    let mut found = Vec::new();
    if has_time && let Ok(mut frames) = loader.find_frames(address) {
        while let Ok(Some(frame)) = frames.next() {
            let name = frame.function.as_ref();
            let name = name.and_then(|name| Some(name.demangle().ok()?.into_owned()));
            let place = frame.location.as_ref();
            let at = place.and_then(|place| Some((place.file?, place.line?)));
            found.push(Frame {
                function: name.unwrap_or_default(),
                at: at.map_or(String::new(), |(file, line)| format!("{file}:{line}")),
            });
        }
    }
    if let Some(symbol) = loader.find_symbol(address) {
        let demangled = demangle(symbol, gimli::DW_LANG_Rust);
        let full = demangled.unwrap_or_else(|| symbol.to_owned());
        match found.last_mut() {
            Some(last) => last.function = full,
            None => found.push(nameless(full)),
        }
    }
    found.retain(|frame| !frame.function.is_empty());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0a0000000-55d0a0400000 r--p 00000000 fe:00 123   /usr/bin/larder with a blank
55d0a0400000-55d0a1000000 r-xp 00400000 fe:00 123   /usr/bin/larder with a blank
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
7f1000000000-7f1000028000 r--p 00000000 fe:00 77    /lib/libc.so.6
7f1000028000-7f1000180000 r-xp 00028000 fe:00 77    /lib/libc.so.6
7f2000000000-7f2000100000 rw-s 00000000 00:01 9     /memfd:larder (deleted)
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0     [stack]
7ffd00100000-7ffd00102000 r-xp 00000000 00:00 0     [vdso]
nonsense
";

    #[test]
    fn what_is_executed_is_found_among_what_is_mapped() {
        let program = Program::parse(MAPS);
        let paths: Vec<_> = program.modules.iter().map(|one| &one.path[..]).collect();
        assert_eq!(
            paths,
            ["/usr/bin/larder with a blank", "/lib/libc.so.6", VDSO]
        );
        assert_eq!(program.modules[0].range, 0x55d0_a000_0000..0x55d0_a100_0000);
        assert_eq!(program.vdso(), Some((0x7ffd_0010_0000, 0x2000)));
        let files = [0, 1].map(|number| program.modules[number].file(7, number));
        assert_eq!(files[0], Path::new("/proc/7/exe"));
        assert_eq!(files[1], Path::new("/proc/7/root/lib/libc.so.6"));
    }

    #[test]
    fn an_address_of_this_program_has_its_name() {
        let process = std::process::id() as i32;
        let program = Program::of(process);
        let mut names = Names::new(&program, process);
        let mut unwinding = Unwinding::new();
        for (number, module) in program.modules.iter().enumerate() {
            let file = fs::File::open(module.file(process, number));
            let added = file
                .ok()
                .and_then(|file| module.add_to(&mut unwinding, &ReadCache::new(file)));
            names.shifts.push(added);
        }
        let frames = names.of(unwound as fn(_, _) -> _ as usize as u64);
        let function = &frames.last().expect("a name").function;
        assert!(function.ends_with("unwind::unwound"), "{frames:?}");
        assert_eq!(names.of(16), [nameless("0x10".to_owned())]);
    }
}
