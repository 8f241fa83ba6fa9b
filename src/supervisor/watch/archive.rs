//! Bundles of evidence in a folder: each complete or not there, and only so many. Several servers may share it: none
//! waits for another, and none touches what another is saving.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// LIMIT: bundles in the folder; the oldest makes room for the next.
const BUNDLES_MAX: usize = 16;

/// LIMIT: bytes of one bundle; what comes last in it and does not fit is left out, as where the disk is full.
const BUNDLE_BYTES_MAX: usize = 32 << 20;

/// How the names of bundles end that are not complete.
const PARTIAL: &str = ".partial";

/// LIMIT: a bundle that is not complete and was not added to for so long is nobody's any more; and what is dated ahead
/// by less may be another server's of this moment.
const MOMENT: Duration = Duration::from_secs(60);

/// How the names of bundles begin.
const PREFIX: &str = "larder-";

/// A file of a bundle.
pub(super) type Named = (String, Vec<u8>);

/// A bundle that is saved.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) folder: PathBuf,
    /// The files for which there was no room.
    pub(super) left_out: Vec<String>,
}

/// The folder.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Saves a bundle, whose name says when it was made and what for.
    pub(super) fn save(&self, what_for: &str, files: &[Named]) -> io::Result<Saved> {
        self.save_at(SystemTime::now(), what_for, files)
    }

    /// The same, at this time.
    fn save_at(&self, mut now: SystemTime, what_for: &str, files: &[Named]) -> io::Result<Saved> {
        self.prepare()?;
        self.make_room(&name_of(now + MOMENT))?;
        let (partial, folder) = loop {
            let name = format!("{}-{what_for}", name_of(now));
            let partial = self.folder.join(format!("{name}{PARTIAL}"));
            let folder = self.folder.join(name);
            match private_folder(&partial) {
                // Who has the one makes the other, and nobody else does.
                Ok(()) if fs::symlink_metadata(&folder).is_err() => break (partial, folder),
                Ok(()) => fs::remove_dir(&partial)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            // The clock was set back, and has come to that time again, or another server saves at this time.
            now += Duration::from_millis(1);
        };
        let saved = fill(&partial, files).and_then(|left_out| {
            fs::rename(&partial, &folder)?;
            Ok(Saved { folder, left_out })
        });
        saved.inspect_err(|_| {
            // Where there is no room, it takes none. The next time it is tried again.
            let _ = fs::remove_dir_all(&partial);
        })
    }

    /// Puts a file in a bundle that is there, in place of one of its name.
    pub(super) fn put(bundle: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let partial = bundle.join(format!("{name}{PARTIAL}"));
        let put = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, bundle.join(name)));
        put.inspect_err(|_| {
            // As above.
            let _ = fs::remove_file(&partial);
        })
    }

    /// Makes sure of the folder: it is this user's own, and nobody else's.
    fn prepare(&self) -> io::Result<()> {
        match private_folder(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        is_own(&fs::symlink_metadata(&self.folder)?)
    }

    /// Removes the oldest bundles, and those that were not completed. What is called otherwise, or is no folder, is
    /// somebody else's.
    fn make_room(&self, now: &str) -> io::Result<()> {
        let mut complete = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().into_string().unwrap_or_default();
            if !is_of_bundle(&name) || !entry.file_type()?.is_dir() {
                continue;
            }
            match name.ends_with(PARTIAL) {
                true if was_left(&entry.path()) => remove(&entry.path())?,
                true => {}
                false => complete.push(name),
            }
        }
        // Their names begin with the time. What is said to be of the future is of a clock that was wrong then: it
        // must not outlive what is saved now.
        complete.sort_unstable_by_key(|name| (&name[..now.len()] <= now, name.clone()));
        let surplus = (complete.len() + 1).saturating_sub(BUNDLES_MAX);
        let mut oldest = complete[..surplus].iter();
        oldest.try_for_each(|name| remove(&self.folder.join(name)))
    }
}

/// Whether nobody is at a bundle that is not complete any more.
fn was_left(partial: &Path) -> bool {
    let changed = fs::symlink_metadata(partial).and_then(|found| found.modified());
    // One of the future is of a clock that was wrong then.
    changed.is_ok_and(|at| at.elapsed().map_or(true, |ago| ago >= MOMENT))
}

/// Removes a bundle, if no other server has.
fn remove(bundle: &Path) -> io::Result<()> {
    match fs::remove_dir_all(bundle) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// How the name of a bundle begins that is made at this time.
fn name_of(at: SystemTime) -> String {
    let at = humantime::format_rfc3339_millis(at).to_string();
    format!("{PREFIX}{}", at.replace(':', ""))
}

/// Whether a name begins as those of bundles do, whatever they are for.
fn is_of_bundle(name: &str) -> bool {
    let like = format!("{}-", name_of(SystemTime::UNIX_EPOCH));
    let is_like = |(byte, like): (u8, u8)| match like {
        b'0'..=b'9' => byte.is_ascii_digit(),
        _ => byte == like,
    };
    name.len() > like.len() && name.bytes().zip(like.bytes()).all(is_like)
}

/// Writes files to a folder; gives the names of those for which there is no room.
fn fill(folder: &Path, files: &[Named]) -> io::Result<Vec<String>> {
    let mut room = BUNDLE_BYTES_MAX;
    let mut left_out = Vec::new();
    for (at, (name, bytes)) in files.iter().enumerate() {
        if bytes.is_empty() {
            continue;
        }
        let path = folder.join(name);
        let written = match bytes.len() <= room {
            true => fs::write(&path, bytes),
            false => Err(io::ErrorKind::StorageFull.into()),
        };
        match written {
            Ok(()) => room -= bytes.len(),
            // Without the first, the others are not worth much.
            Err(error) if at > 0 && is_want_of_room(&error) => {
                // A part of it takes room that others may need.
                let _ = fs::remove_file(&path);
                left_out.push(name.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(left_out)
}

fn is_want_of_room(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    [StorageFull, QuotaExceeded].contains(&error.kind())
}

/// Whether bundles can be saved in a folder, as far as that can be told without making it.
pub(crate) fn can_keep_evidence(folder: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found?),
    };
    let written_to = match &found {
        Some(found) => {
            is_own(found)?;
            folder
        }
        None => match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        },
    };
    let may = Access::WRITE_OK | Access::EXEC_OK;
    accessat(CWD, written_to, may, AtFlags::EACCESS)
        .map_err(|errno| io::Error::other(format!("{}: {errno}", written_to.display())))
}

/// Refuses what is no folder of this user.
fn is_own(found: &fs::Metadata) -> io::Result<()> {
    if found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let wrong = "it is no folder of the user that the server runs as";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, wrong))
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("larder-archive-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
            let mut names: Vec<_> = entries.map(|entry| name(entry).unwrap()).collect();
            names.sort_unstable();
            names
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn files() -> Vec<Named> {
        vec![("report.txt".to_owned(), b"what happened".to_vec())]
    }

    #[test]
    fn bundles_are_complete_private_and_only_so_many() {
        let scratch = Scratch::new("many");
        let archive = Archive::at(scratch.0.clone());
        let first = archive.save("00", &files()).unwrap().folder;
        assert_eq!(
            fs::read(first.join("report.txt")).unwrap(),
            b"what happened"
        );
        assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o700);
        fs::write(scratch.0.join("notes"), "of somebody else").unwrap();
        let others = ["larder-0.1.0", "larder-notes", "larder-2026.partial"];
        for other in others {
            fs::create_dir(scratch.0.join(other)).unwrap();
        }
        let left = format!("{}-left.partial", name_of(SystemTime::UNIX_EPOCH));
        let left = scratch.0.join(&left);
        fs::create_dir(&left).unwrap();
        let before = SystemTime::now() - MOMENT;
        let left = fs::File::open(&left).unwrap();
        left.set_modified(before).unwrap();
        // Neither is a file a bundle, whatever it is called.
        let file = format!("{}-file", name_of(SystemTime::UNIX_EPOCH));
        fs::write(scratch.0.join(&file), "").unwrap();
        fs::write(scratch.0.join("larder-x.partial"), "").unwrap();
        // Those of one millisecond are in the order of what they are for.
        for number in 1..=BUNDLES_MAX {
            archive.save(&format!("{number:02}"), &files()).unwrap();
        }
        let mut names = scratch.names();
        for other in others.iter().chain(&["notes", &file, "larder-x.partial"]) {
            assert!(names.iter().any(|name| name == other), "{other}: {names:?}");
            names.retain(|name| name != other);
        }
        assert_eq!(names.len(), BUNDLES_MAX, "{names:?}");
        assert!(!first.exists());
        assert!(
            !names.iter().any(|name| name.ends_with(PARTIAL)),
            "{names:?}"
        );
    }

    #[test]
    fn what_another_server_is_saving_stays() {
        let scratch = Scratch::new("shared");
        let archive = Archive::at(scratch.0.clone());
        archive.prepare().unwrap();
        let at = SystemTime::UNIX_EPOCH;
        let theirs = scratch.0.join(format!("{}-death{PARTIAL}", name_of(at)));
        fs::create_dir(&theirs).unwrap();
        let ours = archive.save_at(at, "death", &files()).unwrap().folder;
        assert!(ours.join("report.txt").exists() && theirs.exists());
        fs::rename(&theirs, theirs.with_extension("")).unwrap();
    }

    #[test]
    fn two_servers_save_at_the_same_time() {
        let scratch = Scratch::new("at-once");
        let save = || {
            let archive = Archive::at(scratch.0.clone());
            for _ in 0..100 {
                archive.save("death", &files()).unwrap();
            }
        };
        std::thread::scope(|scope| [(); 2].map(|()| scope.spawn(save)).map(drop));
        assert!((BUNDLES_MAX..=BUNDLES_MAX + 1).contains(&scratch.names().len()));
    }

    #[test]
    fn what_is_saved_last_outlives_what_a_wrong_clock_has_dated_ahead() {
        let scratch = Scratch::new("clock");
        let archive = Archive::at(scratch.0.clone());
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        let save = |second| archive.save_at(at(second), "stall", &files()).unwrap();
        for second in 0..BUNDLES_MAX as u64 {
            save(1_000_000 + second);
        }
        // The clock is right again, and was before.
        let [right, right_too] = [1000, 1001].map(|second| save(second).folder);
        let same = save(1001).folder;
        assert!(same != right_too && right.exists() && right_too.exists());
        for second in 1002..1000 + BUNDLES_MAX as u64 {
            save(second);
        }
        let names = scratch.names();
        assert_eq!(names.len(), BUNDLES_MAX, "{names:?}");
        assert!(
            names
                .iter()
                .all(|name| name.starts_with("larder-1970-01-01T00"))
        );
    }

    #[test]
    fn a_bundle_that_cannot_be_saved_leaves_nothing_behind() {
        let scratch = Scratch::new("failed");
        let archive = Archive::at(scratch.0.clone());
        let wrong = vec![("no/such".to_owned(), vec![1])];
        archive.save("x", &[files(), wrong].concat()).unwrap_err();
        assert_eq!(scratch.names(), [""; 0]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_what_comes_later_is_put_in() {
        let scratch = Scratch::new("large");
        let archive = Archive::at(scratch.0.clone());
        let large = vec![1; BUNDLE_BYTES_MAX];
        let bundle = archive
            .save(
                "large",
                &[files(), vec![("large".to_owned(), large)]].concat(),
            )
            .unwrap();
        assert_eq!(bundle.left_out, ["large"]);
        let bundle = bundle.folder;
        assert!(bundle.join("report.txt").exists() && !bundle.join("large").exists());
        Archive::put(&bundle, "report.txt", b"more").unwrap();
        assert_eq!(fs::read(bundle.join("report.txt")).unwrap(), b"more");
        assert_eq!(fs::read_dir(&bundle).unwrap().count(), 1);
    }

    #[test]
    fn whether_a_folder_can_be_used_is_told_without_making_it() {
        let scratch = Scratch::new("asked");
        assert!(can_keep_evidence(&scratch.0).is_ok());
        assert!(!scratch.0.exists());
        private_folder(&scratch.0).unwrap();
        assert!(can_keep_evidence(&scratch.0).is_ok());
        let file = scratch.0.join("file");
        fs::write(&file, "").unwrap();
        for wrong in [file.clone(), file.join("in-it"), scratch.0.join("no/such")] {
            assert!(can_keep_evidence(&wrong).is_err(), "{}", wrong.display());
        }
    }

    #[test]
    fn a_folder_that_somebody_else_has_put_there_is_not_used() {
        let scratch = Scratch::new("link");
        std::os::unix::fs::symlink(std::env::temp_dir(), &scratch.0).unwrap();
        let error = Archive::at(scratch.0.clone())
            .save("x", &files())
            .unwrap_err();
        fs::remove_file(&scratch.0).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
