//! Bundles of evidence in a folder: each complete or not there, and only so many.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// LIMIT: bundles in the folder; the oldest makes room for the next.
const BUNDLES_MAX: usize = 16;

/// LIMIT: bytes of one bundle; what comes last in it and does not fit is left out.
const BUNDLE_BYTES_MAX: usize = 32 << 20;

/// How the names of bundles end that are not complete.
const PARTIAL: &str = ".partial";

/// How the names of bundles begin.
const PREFIX: &str = "larder-";

/// A file of a bundle.
pub(super) type Named = (String, Vec<u8>);

/// The folder.
#[derive(Debug)]
pub(super) struct Archive {
    folder: PathBuf,
}

impl Archive {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Saves a bundle, whose name says when it was made and what for; gives its folder.
    pub(super) fn save(&self, what_for: &str, files: &[Named]) -> io::Result<PathBuf> {
        self.prepare()?;
        self.make_room()?;
        let at = humantime::format_rfc3339_millis(SystemTime::now());
        let at = at.to_string().replace(':', "");
        let bundle = self.folder.join(format!("{PREFIX}{at}-{what_for}"));
        let mut partial = bundle.clone().into_os_string();
        partial.push(PARTIAL);
        let partial = PathBuf::from(partial);
        private_folder(&partial)?;
        let mut room = BUNDLE_BYTES_MAX;
        for (name, bytes) in files.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            if bytes.len() <= room {
                room -= bytes.len();
                fs::write(partial.join(name), bytes)?;
            }
        }
        fs::rename(&partial, &bundle)?;
        Ok(bundle)
    }

    /// Puts a file in a bundle that is there, in place of one of its name.
    pub(super) fn put(bundle: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let partial = bundle.join(format!("{name}{PARTIAL}"));
        File::create(&partial)?.write_all(bytes)?;
        fs::rename(partial, bundle.join(name))
    }

    /// Makes sure of the folder: it is this user's own, and nobody else's.
    fn prepare(&self) -> io::Result<()> {
        match private_folder(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        is_own(&fs::symlink_metadata(&self.folder)?)
    }

    /// Removes the oldest bundles, and all that were not completed.
    fn make_room(&self) -> io::Result<()> {
        let mut complete = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            match name.to_str() {
                Some(name) if name.starts_with(PREFIX) => match name.ends_with(PARTIAL) {
                    true => fs::remove_dir_all(self.folder.join(name))?,
                    false => complete.push(name.to_owned()),
                },
                _ => {}
            }
        }
        // Their names begin with the time.
        complete.sort_unstable();
        let surplus = (complete.len() + 1).saturating_sub(BUNDLES_MAX);
        let mut oldest = complete[..surplus].iter();
        oldest.try_for_each(|name| fs::remove_dir_all(self.folder.join(name)))
    }
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
        let first = archive.save("00", &files()).unwrap();
        assert_eq!(
            fs::read(first.join("report.txt")).unwrap(),
            b"what happened"
        );
        assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o700);
        fs::write(scratch.0.join("notes"), "of somebody else").unwrap();
        fs::create_dir(scratch.0.join("larder-2000-left.partial")).unwrap();
        // Those of one millisecond are in the order of what they are for.
        for number in 1..=BUNDLES_MAX {
            archive.save(&format!("{number:02}"), &files()).unwrap();
        }
        let names = scratch.names();
        assert_eq!(names.len(), BUNDLES_MAX + 1, "{names:?}");
        assert!(!first.exists() && names.contains(&"notes".to_owned()));
        assert!(
            !names.iter().any(|name| name.ends_with(PARTIAL)),
            "{names:?}"
        );
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
