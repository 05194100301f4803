//! `mica repro`: two builds from nothing under other conditions, and why what they make differs.
//!
//! The builds are processes of their own, with stores of their own that are removed at the end. Where contents do not tell the cause of a
//! difference, the step runs again in the first store: as it was, and then with one condition changed at a time.

mod report;
mod settle;
mod task;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mica_executor::IdMode;

use super::exit::{COULD_NOT_TELL, Failure, NOT_SO};
use super::{print, print_json, say, setup};
use crate::arguments::{GlobalOptions, ReproArguments, StandardInput};
use crate::engine::repro::{Comparison, Conditions, Trial};
use crate::engine::request::BuildRequest;
use crate::environment::{self, Environment, now};
use report::Told;
use task::{Building, Task, read_json};

/// What the steps of the second build find.
const HOSTNAME: &str = "mica-elsewhere";
const LOCALE: &str = "et_EE.UTF-8";
/// Zones where it is yesterday in the morning, and tomorrow from noon on.
const TIME_ZONES: [&str; 2] = ["BAKER12", "KIRI-14"];
const UMASK: u32 = 0o002;

/// Builds twice and compares.
pub(super) fn run(
    arguments: &ReproArguments,
    global: &GlobalOptions,
    environment: &dyn Environment,
) -> Result<ExitCode, Failure> {
    if let Some(text) = &arguments.task {
        let task = serde_json::from_str(text).map_err(|error| Failure::local("--task", error))?;
        return task::run(task, arguments, global, environment);
    }
    let request = setup::request(&arguments.build, environment)?;
    check(arguments, &request)?;
    let runtime = setup::runtime()?;
    let told = runtime.block_on(Repro::new(&request, global, environment)?.run());
    runtime.shutdown_background();
    let told = told.map_err(|failure| failure.with_code(COULD_NOT_TELL))?;
    if arguments.json {
        print_json(&told)?;
    } else {
        print(told.text().as_bytes())?;
    }
    Ok(if told.is_same() { ExitCode::SUCCESS } else { ExitCode::from(NOT_SO) })
}

fn check(arguments: &ReproArguments, request: &BuildRequest) -> Result<(), Failure> {
    let refused = |what: &str, hint: &str| {
        Err(Failure::plain(what).with_hint(Some(hint.to_owned())).with_code(COULD_NOT_TELL))
    };
    if arguments.build.standard_input() != StandardInput::Unused {
        return refused(
            "standard input can be read only once, and there are two builds",
            "name a file or directory",
        );
    }
    if !request.outputs.is_empty() {
        return refused("`mica repro` writes and pushes nothing", "leave out `--output` and `--push`");
    }
    Ok(())
}

/// Two builds and what is tried after them.
struct Repro {
    /// Of the person, where base images may be.
    root: PathBuf,
    /// Holds the first store, reports and layouts.
    work: PathBuf,
    /// Where memory is a file system, for the second store: directories are listed in another order there.
    memory: Option<PathBuf>,
    /// What the second build finds.
    varied: Conditions,
    is_root: bool,
}

impl Repro {
    fn new(
        request: &BuildRequest,
        global: &GlobalOptions,
        environment: &dyn Environment,
    ) -> Result<Self, Failure> {
        let name = format!("mica-repro-{}", std::process::id());
        let temporary = environment.var("TMPDIR").filter(|path| !path.is_empty()).map(PathBuf::from);
        let work = environment
            .current_dir()
            .join(temporary.unwrap_or_else(|| PathBuf::from("/var/tmp")))
            .join(&name);
        std::fs::create_dir(&work)
            .map_err(|error| Failure::local(format!("cannot make `{}`", work.display()), error))?;
        let memory = Path::new("/dev/shm").join(&name);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let pinned = |item| request.normalises(item);
        let is_free = !pinned("epoch");
        let varied = Conditions {
            hostname: is_free.then(|| HOSTNAME.to_owned()),
            umask: is_free.then_some(UMASK),
            locale: (!pinned("locale")).then(|| LOCALE.to_owned()),
            time_zone: (!pinned("timezone")).then(|| other_day(seconds_now()).to_owned()),
            processors: (processors > 1).then_some(1),
            ..Conditions::default()
        };
        Ok(Self {
            root: setup::store_root(global, environment)?,
            work,
            memory: (has_room() && std::fs::create_dir(&memory).is_ok()).then_some(memory),
            varied,
            is_root: mica_executor::id_mode() == IdMode::Root,
        })
    }

    async fn run(&self) -> Result<Told, Failure> {
        let told = self.compared().await;
        let places = [Some(self.work.clone()), self.memory.clone()].into_iter().flatten().collect();
        self.spawn(&self.root, &Task::Remove(places), true).await?;
        told
    }

    async fn compared(&self) -> Result<Told, Failure> {
        let bases = self.work.join("bases");
        std::fs::create_dir(&bases).map_err(|error| Failure::local("cannot make a directory", error))?;
        self.must(&self.root, &Task::SaveBases(bases.clone()), "the bases cannot be had").await?;
        say("build 1 of 2: as always");
        let first = self.first();
        let first = self
            .build(first, Some(&bases), None)
            .await?
            .ok_or_else(|| Failure::plain("the first build failed"))?;
        // Times with a resolution of a second are to differ.
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        let (second, comparison) = self.second(&first, &bases).await?;
        let mut told = Told::new(comparison, &first, &second, self.memory.as_deref());
        self.settle(&first, &second, &mut told.comparison.findings).await?;
        Ok(told)
    }

    fn first(&self) -> Trial {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Trial {
            store: self.work.join("first"),
            report: self.work.join("first.json"),
            layout: Some(self.work.join("first.image")),
            is_nested: false,
            conditions: Conditions::default(),
            processors: u32::try_from(processors).unwrap_or(u32::MAX),
            seconds: (0, 0),
        }
    }

    /// Builds elsewhere; where that fails, with less that is unusual.
    async fn second(&self, first: &Trial, bases: &Path) -> Result<(Trial, Comparison), Failure> {
        let elsewhere = self.memory.as_ref().map(|memory| (memory.join("second"), self.is_root));
        let plain = [(self.work.join("second"), self.is_root), (self.work.join("second-plain"), false)];
        for (store, is_nested) in elsewhere.into_iter().chain(plain) {
            let kind = if is_nested { ", in a user namespace" } else { "" };
            say(&format!(
                "build 2 of 2: other host name, locale, time zone, umask, processors, jobs and store{kind}"
            ));
            let trial = Trial {
                report: self.work.join("second.json"),
                layout: Some(store.with_extension("image")),
                store,
                is_nested,
                conditions: self.varied.clone(),
                processors: self.varied.processors.unwrap_or(first.processors),
                seconds: (0, 0),
            };
            if let Some(second) = self.build(trial, Some(bases), Some(1)).await? {
                let mut comparison = self.compare(first, &second, None).await?;
                comparison.same_images &= same_layouts(first, &second);
                return Ok((second, comparison));
            }
        }
        let hint = "a step depends on the host name, locale, time zone, umask or number of processors; its output is above";
        Err(Failure::plain("the second build failed").with_hint(Some(hint.to_owned())))
    }

    async fn build(
        &self,
        trial: Trial,
        bases: Option<&Path>,
        jobs: Option<usize>,
    ) -> Result<Option<Trial>, Failure> {
        self.build_with(trial, bases, jobs, false).await
    }

    async fn build_quietly(&self, trial: Trial) -> Result<Option<Trial>, Failure> {
        self.build_with(trial, None, None, true).await
    }

    async fn build_with(
        &self,
        mut trial: Trial,
        bases: Option<&Path>,
        jobs: Option<usize>,
        is_quiet: bool,
    ) -> Result<Option<Trial>, Failure> {
        let task = Task::Build(Building {
            conditions: trial.conditions.clone(),
            is_nested: trial.is_nested,
            bases: bases.map(Path::to_owned),
            layout: trial.layout.clone(),
            report: trial.report.clone(),
            jobs,
        });
        trial.seconds.0 = seconds_now();
        let succeeded = self.spawn(&trial.store, &task, is_quiet).await?;
        trial.seconds.1 = seconds_now();
        Ok(succeeded.then_some(trial))
    }

    async fn compare(&self, before: &Trial, after: &Trial, only: Option<u32>) -> Result<Comparison, Failure> {
        let to = self.work.join("comparison.json");
        let (before, after) = (Box::new(before.clone()), Box::new(after.clone()));
        let store = before.store.clone();
        let task = Task::Compare { before, after, only, to: to.clone() };
        self.must(&store, &task, "the builds cannot be compared").await?;
        read_json(&to)
    }

    async fn must(&self, root: &Path, task: &Task, otherwise: &str) -> Result<(), Failure> {
        if self.spawn(root, task, false).await? { Ok(()) } else { Err(Failure::plain(otherwise)) }
    }

    /// Runs a task and returns whether it succeeded; an interrupt reaches it too, and ends everything.
    async fn spawn(&self, root: &Path, task: &Task, is_quiet: bool) -> Result<bool, Failure> {
        let failed = |error| Failure::local("cannot start mica again", error);
        let (program, words) = environment::own_command().map_err(failed)?;
        let text = serde_json::to_string(task).expect("tasks have text keys");
        let mut command = tokio::process::Command::new(program);
        command
            .args(child_arguments(words, &text))
            .env("MICA_ROOT", root)
            .stdout(std::process::Stdio::null());
        if is_quiet {
            command.stderr(std::process::Stdio::null());
        }
        let mut child = command.spawn().map_err(failed)?;
        let mut signals = setup::Signals::new();
        tokio::select! {
            status = child.wait() => Ok(status.map_err(failed)?.success()),
            code = signals.next() => {
                // It has got the signal from the terminal, or gets none; either way it is over.
                let _ = child.kill().await;
                Err(Failure::plain("interrupted").with_code(code))
            }
        }
    }
}

fn seconds_now() -> i64 {
    now().unix().map_or(0, |(seconds, _)| seconds)
}

/// Returns a time zone in which another day is written than in UTC, so that dates give themselves away.
fn other_day(seconds: i64) -> &'static str {
    let hour = seconds.rem_euclid(24 * 3600) / 3600;
    TIME_ZONES[usize::from(hour >= 12)]
}

/// The words of this command line for a task: with it, and without a store of their own.
fn child_arguments(words: Vec<std::ffi::OsString>, task: &str) -> Vec<std::ffi::OsString> {
    let mut made = Vec::with_capacity(words.len() + 1);
    let mut words = words.into_iter();
    let mut task = Some(format!("--task={task}"));
    while let Some(word) = words.next() {
        if word == "--root" {
            words.next();
        } else if word == "--" {
            made.extend(task.take().map(Into::into));
            made.push(word);
            made.extend(words.by_ref());
        } else if !word.as_encoded_bytes().starts_with(b"--root=") {
            made.push(word);
        }
    }
    made.extend(task.map(Into::into));
    made
}

/// Whether there is memory to spare for a store.
fn has_room() -> bool {
    const ENOUGH: u64 = 1 << 30;
    let free = |statistics: rustix::fs::StatVfs| statistics.f_bavail * statistics.f_frsize;
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    rustix::fs::statvfs("/dev/shm").is_ok_and(|found| free(found) >= ENOUGH)
        && available.is_some_and(|kilobytes| kilobytes * 1024 >= 2 * ENOUGH)
}

/// Whether the index of both layouts, which names the manifest, is the same.
fn same_layouts(first: &Trial, second: &Trial) -> bool {
    let index =
        |trial: &Trial| trial.layout.as_ref().and_then(|path| std::fs::read(path.join("index.json")).ok());
    index(first).is_some() && index(first) == index(second)
}

#[cfg(test)]
mod tests {
    use super::{child_arguments, other_day};

    #[test]
    fn another_day_is_written_at_every_hour() {
        // Seconds east of Greenwich.
        let offset = |zone| if zone == "BAKER12" { -12 * 3600 } else { 14 * 3600 };
        for seconds in (0..24 * 3600).step_by(59) {
            let there = seconds + offset(other_day(seconds));
            assert_ne!(there.div_euclid(24 * 3600), 0, "{seconds}");
        }
    }

    #[test]
    fn tasks_get_the_flags_but_not_the_store() {
        let made = |words: &[&str]| {
            let words = words.iter().map(Into::into).collect();
            child_arguments(words, "{}")
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(made(&["--root", "/r", "repro", "--root=/s", "."]), ["repro", ".", "--task={}"]);
        assert_eq!(made(&["repro", "--", "--root"]), ["repro", "--task={}", "--", "--root"]);
    }
}
