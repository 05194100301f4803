//! From a commit to a directory.
//!
//! The work tree has its own `.git`, fetched as shallow as the server allows. Where it is not wanted it is removed again, as are
//! the `.git` files of submodules, which name places of this machine.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use mica_image::RootDir;
use mica_image::root_dir::Links;
use rustix::fs::FileType;

use super::resolve::{ResolvedCommit, check_reference};
use super::url::{CommitTimes, GitUrl};
use super::{Git, GitError, is_commit};

/// Where the fetched commit is kept from being lost.
const TARGET: &str = "refs/mica/target";

/// What a checkout has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckoutOptions {
    /// Whether `.git` is kept. It never is when only a directory is taken.
    pub keep_git_dir: bool,
    /// Whether submodules are fetched.
    pub submodules: bool,
    /// Which times files get.
    pub times: CommitTimes,
}

impl CheckoutOptions {
    /// Returns what `url` asks for, with the usual answers where it is silent.
    #[must_use]
    pub fn for_url(url: &GitUrl) -> Self {
        Self {
            keep_git_dir: url.keep_git_dir.unwrap_or(false),
            submodules: url.submodules.unwrap_or(true),
            times: url.times.unwrap_or(CommitTimes::Checkout),
        }
    }
}

/// A finished checkout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkout {
    /// The commit.
    pub commit: String,
    /// When it was made, in seconds since 1970.
    pub commit_time: i64,
}

impl Git {
    /// Checks `resolved` out into `directory`, which must be empty, using `scratch`, an empty directory on the same file
    /// system.
    pub async fn checkout(
        &self,
        url: &GitUrl,
        resolved: &ResolvedCommit,
        directory: &Path,
        scratch: &Path,
        options: CheckoutOptions,
    ) -> Result<Checkout, GitError> {
        let whole = url.subdir.is_none();
        let work = if whole { directory } else { scratch };
        self.fetch(url, resolved, work).await?;
        let commit = self.run(url, work, "read", ["rev-parse", &format!("{TARGET}^{{commit}}")]).await?;
        let commit = commit.trim().to_owned();
        self.run(url, work, "check out", ["checkout", "--quiet", "--force", "--detach", &commit]).await?;
        if options.submodules {
            let arguments = ["submodule", "update", "--init", "--recursive", "--depth=1"];
            self.run(url, work, "update the submodules of", arguments).await?;
        }
        let commit_time = self.commit_time(url, work, &commit).await?;
        if options.keep_git_dir && whole {
            self.tidy_git_dir(url, resolved, work, &commit).await?;
        } else {
            self.remove_git_files(work)?;
        }
        if let Some(subdir) = &url.subdir {
            move_contents(url, work, subdir, directory)?;
        }
        if options.times == CommitTimes::Commit {
            set_times(directory, commit_time)?;
        }
        Ok(Checkout { commit, commit_time })
    }

    /// Makes a repository in `work` and fetches the commit into it.
    async fn fetch(&self, url: &GitUrl, resolved: &ResolvedCommit, work: &Path) -> Result<(), GitError> {
        let format =
            if resolved.commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
        self.run(url, work, "prepare for", ["init", "--quiet", "--template=", format]).await?;
        // Addresses of submodules may be relative to this one.
        self.run(url, work, "prepare for", ["config", "remote.origin.url", url.remote()]).await?;
        let wanted = resolved.tag.as_ref().unwrap_or(&resolved.commit);
        if !is_commit(&resolved.reference) && !url.fetch_by_commit {
            check_reference(&resolved.reference)?;
            self.fetch_one(url, work, &resolved.reference).await?;
            if self.target(url, work).await? == *wanted {
                return Ok(());
            }
            // The reference has moved since it was resolved: what was resolved counts.
        }
        let Err(error) = self.fetch_one(url, work, wanted).await else { return Ok(()) };
        if url.fetch_by_commit || !is_about_unadvertised_commit(&error) {
            return Err(error);
        }
        // The server gives out branches and tags only. One of them should have it.
        let everything = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--", url.remote()];
        arguments.extend(everything);
        self.run(url, work, "fetch", arguments).await?;
        self.run(url, work, "find the commit in", ["update-ref", TARGET, wanted]).await.map(drop)
    }

    /// Fetches one reference or commit, without its history if the server can do that.
    async fn fetch_one(&self, url: &GitUrl, work: &Path, wanted: &str) -> Result<(), GitError> {
        let refspec = format!("+{wanted}:{TARGET}");
        let remote = url.remote();
        let shallow = ["fetch", "--quiet", "--depth=1", "--no-tags", "--", remote, &refspec];
        match self.run(url, work, "fetch", shallow).await {
            Err(GitError::Failed { message, .. })
                if message.contains("shallow") || message.contains("--depth") =>
            {
                self.run(url, work, "fetch", ["fetch", "--quiet", "--no-tags", "--", remote, &refspec])
                    .await
                    .map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn target(&self, url: &GitUrl, work: &Path) -> Result<String, GitError> {
        let id = self.run(url, work, "read", ["rev-parse", TARGET]).await?;
        Ok(id.trim().to_owned())
    }

    async fn commit_time(&self, url: &GitUrl, work: &Path, commit: &str) -> Result<i64, GitError> {
        let text = self.run(url, work, "read", ["log", "-1", "--format=%ct", commit]).await?;
        text.trim().parse().map_err(|_| GitError::Answer { remote: url.remote().to_owned() })
    }

    /// Leaves in `.git` what a clone would have, and nothing that differs from one checkout to the next.
    async fn tidy_git_dir(
        &self,
        url: &GitUrl,
        resolved: &ResolvedCommit,
        work: &Path,
        commit: &str,
    ) -> Result<(), GitError> {
        let action = "prepare for";
        if !is_commit(&resolved.reference) {
            let id = resolved.tag.as_deref().unwrap_or(commit);
            self.run(url, work, action, ["update-ref", "--", &resolved.reference, id]).await?;
        }
        self.run(url, work, action, ["update-ref", "-d", TARGET]).await?;
        let refspec = "+refs/heads/*:refs/remotes/origin/*";
        self.run(url, work, action, ["config", "remote.origin.fetch", refspec]).await?;
        self.run(url, work, action, ["reflog", "expire", "--all", "--expire=now"]).await?;
        for name in [".git/FETCH_HEAD", ".git/ORIG_HEAD"] {
            remove_if_there(&work.join(name))?;
        }
        Ok(())
    }

    fn remove_git_files(&self, work: &Path) -> Result<(), GitError> {
        let root = open(work)?;
        let mut pending = vec![Vec::new()];
        while let Some(directory) = pending.pop() {
            for entry in root.list(&directory).map_err(file_error(work))? {
                let path = join(&directory, &entry.name);
                if entry.name == b".git" {
                    root.remove_all(&path).map_err(file_error(work))?;
                } else if entry.kind == FileType::Directory {
                    pending.push(path);
                }
            }
        }
        Ok(())
    }
}

/// Whether a server refused a commit because no branch or tag is it.
fn is_about_unadvertised_commit(error: &GitError) -> bool {
    let GitError::Failed { message, .. } = error else { return false };
    ["not our ref", "unadvertised object", "couldn't find remote ref"]
        .iter()
        .any(|text| message.contains(text))
}

/// Moves what is in `work`'s directory `subdir`, reached without following links, to `directory`.
fn move_contents(url: &GitUrl, work: &Path, subdir: &str, directory: &Path) -> Result<(), GitError> {
    let source = open(work)?.open_dir(subdir.trim_matches('/').as_bytes()).map_err(|source| {
        GitError::Subdir { remote: url.remote().to_owned(), subdir: subdir.to_owned(), source }
    })?;
    let target = rustix::fs::open(
        directory,
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|error| file_error(directory)(error.into()))?;
    for entry in source.list(b"").map_err(file_error(work))? {
        rustix::fs::renameat(source.as_fd(), &*entry.name, &target, &*entry.name)
            .map_err(|error| file_error(directory)(error.into()))?;
    }
    Ok(())
}

/// Gives everything in `directory`, and itself, the time of the commit; directories last, as they change when their contents do.
fn set_times(directory: &Path, seconds: i64) -> Result<(), GitError> {
    let root = open(directory)?;
    let mut directories = vec![Vec::new()];
    let mut next = 0;
    while let Some(current) = directories.get(next).cloned() {
        next += 1;
        for entry in root.list(&current).map_err(file_error(directory))? {
            let path = join(&current, &entry.name);
            if entry.kind == FileType::Directory {
                directories.push(path);
            } else {
                root.set_mtime(&path, seconds, 0).map_err(file_error(directory))?;
            }
        }
    }
    directories
        .iter()
        .rev()
        .try_for_each(|path| root.set_mtime(path, seconds, 0))
        .map_err(file_error(directory))
}

fn open(directory: &Path) -> Result<RootDir, GitError> {
    RootDir::open(directory, Links::Refused).map_err(file_error(directory))
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

fn remove_if_there(path: &Path) -> Result<(), GitError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path)(error)),
        _ => Ok(()),
    }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> GitError {
    let path: PathBuf = path.to_owned();
    move |source| GitError::File { path: path.clone(), source }
}
