//! COPY and ADD: what is taken (for the key), where it lands (with the conditions that follow), and the files written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use mica_cache::{CacheRecord, ContextTree, DetailId, OmittedFiles, Ownership, Replace, Scratch};
use mica_executor::copy::{
    Chmod, ContentReader, Devices, Item, Layout, Origin, Owner, PlaceOptions, Placement, SelectRequest,
    Selection, Shape, SourcePattern, WriteOptions, expand_archives, place, resolve_owner, select,
};
use mica_image::LayerId;
use mica_image::index::{Bytes, LayerIndex, Node, Time, TimeKind};
use mica_image::root_dir::{Links, RootDir};
use mica_image::tree::{FileTree, MergedTree, RecordingTree, TreeEntry};
use mica_solver::graph::{CopyOp, CopySource, Unpack};
use mica_solver::{BuildEvent, Executed, KeyParts, LeftOutFiles, Step, StepId, StepInputs, StepResult};

use super::held::name_held;
use super::source::SourceFiles;
use super::{Shared, StepError, Work};
use crate::engine::listing;
use crate::engine::patterns::DockerfilePatterns;
use crate::environment::now;

/// One thing a step takes from an input.
#[derive(Clone)]
pub(super) struct Taken {
    /// The key part that names it.
    pub part: String,
    /// What is taken.
    pub selection: Selection,
    /// Where its bytes can be opened.
    pub from: Bearer,
}

/// Who has the bytes of a selection.
#[derive(Clone)]
pub(super) enum Bearer {
    /// A context on disk.
    Context(Arc<ContextTree>),
    /// Layers of the store.
    Layers,
    /// The selection itself.
    Itself,
}

/// Selects what each source of a COPY takes and names its content.
pub(super) fn contents(
    shared: &Shared,
    step: &Step,
    copy: &CopyOp,
    inputs: &StepInputs,
) -> Result<KeyParts, StepError> {
    let mut parts = KeyParts::default();
    let mut all = Vec::new();
    for source in &copy.sources {
        let layout = if copy.parents { Layout::Parents } else { Layout::Flat };
        let taken = take(shared, step, source, layout, &copy.excludes, inputs)?;
        parts.push(&taken.part, hex(&taken.selection.digest()));
        all.push(taken);
    }
    shared.keep_taken(step.id, all);
    Ok(parts)
}

fn take(
    shared: &Shared,
    step: &Step,
    source: &CopySource,
    layout: Layout,
    excludes: &[String],
    inputs: &StepInputs,
) -> Result<Taken, StepError> {
    let part = format!("content `{}`", source.path);
    let patterns = SourcePattern { path: source.path.clone().into_bytes(), wildcards: true };
    let exclude: Vec<_> = excludes.iter().map(|pattern| pattern.clone().into_bytes()).collect();
    let request = SelectRequest {
        sources: std::slice::from_ref(&patterns),
        layout,
        exclude: &exclude,
        patterns: &DockerfilePatterns,
    };
    let input = inputs.slot(source.slot).expect("a plan gives every source its slot");
    let StepResult::Files(id) = input else { return select_from(shared, step, input, part, &request) };
    match &*shared.files(*id) {
        SourceFiles::Download(download) => {
            let selection = download.selection(&source.path);
            Ok(Taken { part: format!("content of `{}`", download.url), selection, from: Bearer::Itself })
        }
        SourceFiles::Inline(files) => {
            let name = source.path.trim_start_matches('/');
            let Some((_, content)) = files.iter().find(|(known, _)| known == name) else {
                return select_from(shared, step, input, part, &request);
            };
            let selection =
                Selection::from_inline(name.as_bytes(), content.as_bytes().into(), 0o644, made_now());
            Ok(Taken { part, selection, from: Bearer::Itself })
        }
        SourceFiles::Context { .. } => select_from(shared, step, input, part, &request),
    }
}

/// Selects from an input that is a tree of files: layers, a context, or nothing at all.
pub(super) fn select_from(
    shared: &Shared,
    step: &Step,
    input: &StepResult,
    part: String,
    request: &SelectRequest<'_>,
) -> Result<Taken, StepError> {
    let selected = |tree: &dyn FileTree, from: Bearer| {
        let selection = select(tree, request).map_err(|error| StepError::select(step, error))?;
        Ok(Taken { part: part.clone(), selection, from })
    };
    match input {
        StepResult::Tree(tree) => selected(&shared.store.layers().tree(tree)?, Bearer::Layers),
        StepResult::Files(id) => match &*shared.files(*id) {
            SourceFiles::Context { tree, .. } => selected(&**tree, Bearer::Context(tree.clone())),
            // A stage without a step.
            SourceFiles::Inline(files) if files.is_empty() => {
                selected(&MergedTree::new(Vec::new()), Bearer::Itself)
            }
            SourceFiles::Download(_) | SourceFiles::Inline(_) => {
                Err(StepError::mount(step, format!("{part}: it is a single file, and a directory is needed")))
            }
        },
    }
}

/// Returns the listings of what a step took, as details of its record's parts.
pub(super) fn details(shared: &Shared, step: StepId) -> Result<BTreeMap<String, DetailId>, StepError> {
    let mut details = BTreeMap::new();
    for taken in shared.taken(step).iter() {
        let listing = shared.store.details().put_with(|out| listing::write(&taken.selection, out))?;
        details.insert(taken.part.clone(), listing);
    }
    Ok(details)
}

/// Places and writes what was taken, and records the layer under the facts that placing it read.
pub(super) fn execute(work: &Work, copy: &CopyOp) -> Result<Executed, StepError> {
    let shared = &work.shared;
    let spool = shared.store.layers().begin()?;
    let taken = unpacked(work, copy, &spool)?;
    let stage = shared.store.layers().tree(&work.inputs.parent)?;
    let nothing = MergedTree::new(Vec::new());
    // A linked copy is placed on nothing, but the names of its owner are looked up in the stage all the same.
    let onto: &dyn FileTree = if copy.link { &nothing } else { &stage };
    let (destination, names) = (RecordingTree::new(onto), RecordingTree::new(&stage));
    let chmod = copy
        .chmod
        .as_deref()
        .map(Chmod::parse)
        .transpose()
        .map_err(|error| StepError::mode(&work.step, error))?;
    let owner = owner(work, copy, &names)?;
    let options = PlaceOptions {
        destination: copy.destination.as_bytes(),
        owner,
        chmod: chmod.as_ref(),
        now: seconds_now(),
    };
    let selections: Vec<_> = taken.iter().map(|taken| &taken.selection).collect();
    let placement =
        place(&selections, &destination, &options).map_err(|error| StepError::place(&work.step, error))?;
    // What was found of nothing is always so, and is not to be looked for in a stage.
    let placing = if copy.link { Vec::new() } else { destination.facts() };
    let conditions: BTreeSet<_> = placing.into_iter().chain(names.facts()).collect();
    store(work, placement, &taken, conditions.into_iter().collect())
}

/// Looks up `--chown` names in the image that is copied into, which makes its passwd and group conditions of the record.
fn owner(work: &Work, copy: &CopyOp, stage: &RecordingTree<'_>) -> Result<Option<Owner>, StepError> {
    let Some(spec) = &copy.chown else { return Ok(None) };
    let (owner, unknown) = resolve_owner(spec, stage, &LayerReader { shared: &work.shared, facts: stage })
        .map_err(|error| StepError::owner(&work.step, error))?;
    for name in unknown {
        let message = format!("{}: `{name}` is not known in the image, 0 is used", work.step.name);
        work.cx.events.send_blocking(BuildEvent::Warning { message });
    }
    Ok(Some(owner))
}

/// Writes a placement as a layer and records it.
pub(super) fn store(
    work: &Work,
    mut placement: Placement,
    taken: &[Taken],
    conditions: Vec<mica_image::tree::Fact>,
) -> Result<Executed, StepError> {
    let shared = &work.shared;
    let layers = shared.store.layers();
    let scratch = layers.begin()?;
    name_held(work, &mut placement)?;
    let cancelled = || work.cx.cancel.is_cancelled();
    let index = write_files(shared, &work.step, placement, taken, &scratch.files(), &cancelled)?;
    work.storing();
    let committed = layers.commit(scratch, index, seconds_now().0)?;
    let layer = committed.layer.id();
    let result = work.result(layer, committed.index);
    record(work, layer, conditions, None)?;
    Ok(Executed {
        result,
        equal_output: committed.existed,
        bytes: committed.layer.own_bytes(),
        shared: false,
        left_out: Vec::new(),
    })
}

/// How the command of a step ran.
pub(super) struct Ran {
    /// When, in seconds since 1970.
    pub(super) started: i64,
    pub(super) duration: std::time::Duration,
    pub(super) left_out: Vec<LeftOutFiles>,
}

/// Writes the record of a step that is done; `ran` where it was a command.
pub(super) fn record(
    work: &Work,
    layer: LayerId,
    conditions: Vec<mica_image::tree::Fact>,
    ran: Option<Ran>,
) -> Result<(), StepError> {
    let made_now =
        || Ran { started: seconds_now().0, duration: std::time::Duration::ZERO, left_out: Vec::new() };
    let Ran { started, duration, left_out } = ran.unwrap_or_else(made_now);
    let omitted = |LeftOutFiles { kind, count, paths }| OmittedFiles { kind, count, paths };
    let record = CacheRecord {
        key: work.record_key(),
        parts: work.record_parts()?,
        layer,
        conditions,
        log: None,
        step: work.step.name.clone(),
        started,
        duration: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        left_out: left_out.into_iter().map(omitted).collect(),
    };
    let replace = if work.step.ignore_cache { Replace::All } else { Replace::Keep };
    let records = work.shared.store.records();
    records.put(&record, replace)?;
    records.note_recent(&work.shared.place(work.step.id), &record.key)?;
    work.shared.note_used(work.step.id, &record);
    Ok(())
}

/// Opens the bytes of a placed file.
fn open(shared: &Shared, taken: &[Taken], origin: &Origin) -> io::Result<File> {
    match origin {
        Origin::Tree { selection, entry } => match (&taken[*selection].from, &entry.node) {
            (Bearer::Context(tree), _) => tree.open(&entry.path),
            (_, Node::File { bytes: Bytes::In { layer, path }, .. }) => {
                shared.store.layers().open_bytes(layer, path, &Bytes::Here).map_err(io::Error::other)
            }
            _ => Err(io::Error::other("a file of a layer without a place")),
        },
        Origin::File(path) | Origin::Spooled(path) => File::open(path),
        Origin::Inline(_) => Err(io::Error::other("inline content needs no file")),
    }
}

/// What was taken, with archives replaced by their members where ADD unpacks them; their bytes lie in `spool`.
fn unpacked(work: &Work, copy: &CopyOp, spool: &Scratch) -> Result<Arc<Vec<Taken>>, StepError> {
    let taken = work.shared.taken(work.step.id);
    if copy.sources.iter().all(|source| source.unpack == Unpack::No) {
        return Ok(taken);
    }
    let mut all = (*taken).clone();
    for number in 0..all.len() {
        if copy.sources[number].unpack == Unpack::No {
            continue;
        }
        let selection = all[number].selection.clone();
        let open = |origin: &Origin| open(&work.shared, &all, origin);
        let directory = spool.files().join(number.to_string());
        std::fs::create_dir(&directory).map_err(|error| StepError::read(&work.step, b"spool", error))?;
        let expanded = expand_archives(selection, number, &open, &directory)
            .map_err(|error| StepError::archive(&work.step, error))?;
        all[number].selection = expanded;
    }
    Ok(Arc::new(all))
}

/// Writes the files of a placement that no layer holds, and returns the index.
fn write_files(
    shared: &Shared,
    step: &Step,
    placement: Placement,
    taken: &[Taken],
    to: &Path,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<LayerIndex, StepError> {
    let open = |origin: &Origin| open(shared, taken, origin);
    let in_user_namespace = shared.store.ownership() != Ownership::Root;
    let mut options = WriteOptions { cancelled, ..WriteOptions::new(&open, shared.host.file_ownership()) };
    if in_user_namespace {
        // Device nodes cannot be made there, and overlayfs looks for its marks under another name.
        options.devices = Devices::Record;
        options.opaque_attribute = "user.overlay.opaque";
    }
    let root = RootDir::open(to, Links::Refused)
        .map_err(|error| StepError::read(step, to.as_os_str().as_encoded_bytes(), error))?;
    mica_executor::copy::write(placement, &root, &options).map_err(|error| StepError::write(step, error))
}

/// Reads files of a tree of layers, and makes their content a condition.
pub(super) struct LayerReader<'a, 'b> {
    pub shared: &'a Shared,
    pub facts: &'a RecordingTree<'b>,
}

impl ContentReader for LayerReader<'_, '_> {
    fn read(&self, entry: &TreeEntry) -> io::Result<Vec<u8>> {
        self.facts.content(&entry.entry.path).map_err(io::Error::other)?;
        let Node::File { bytes: Bytes::In { layer, path }, .. } = &entry.entry.node else {
            return Err(io::Error::other("not a file of a layer"));
        };
        let mut file =
            self.shared.store.layers().open_bytes(layer, path, &Bytes::Here).map_err(io::Error::other)?;
        let mut content = Vec::new();
        io::Read::read_to_end(&mut file, &mut content)?;
        Ok(content)
    }
}

fn made_now() -> Time {
    let (seconds, nanoseconds) = seconds_now();
    Time { seconds, nanoseconds, kind: TimeKind::Now }
}

pub(super) fn seconds_now() -> (i64, u32) {
    now().unix().unwrap_or((0, 0))
}

fn hex(bytes: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*bytes).to_hex().to_string()
}

impl Taken {
    /// Returns the file's name where a single file was taken.
    pub(super) fn single_name(&self) -> Option<String> {
        match self.selection.items.as_slice() {
            [Item { shape: Shape::Named(name), .. }] => Some(String::from_utf8_lossy(name).into_owned()),
            _ => None,
        }
    }
}

/// Makes a layer of what a selection shows, placed on nothing: for mounts of context files.
pub(super) fn layer_of(shared: &Shared, step: &Step, taken: &Taken) -> Result<LayerId, StepError> {
    let layers = shared.store.layers();
    let scratch = layers.begin()?;
    let index = write_alone(shared, step, taken, &scratch.files())?;
    Ok(layers.commit(scratch, index, seconds_now().0)?.layer.id())
}

/// Copies what a selection shows into an empty directory.
pub(super) fn copy_into(shared: &Shared, step: &Step, taken: &Taken, to: &Path) -> Result<(), StepError> {
    write_alone(shared, step, taken, to).map(drop)
}

fn write_alone(shared: &Shared, step: &Step, taken: &Taken, to: &Path) -> Result<LayerIndex, StepError> {
    let empty = MergedTree::new(Vec::new());
    let options = PlaceOptions { destination: b"/", owner: None, chmod: None, now: seconds_now() };
    let placement =
        place(&[&taken.selection], &empty, &options).map_err(|error| StepError::place(step, error))?;
    write_files(shared, step, placement, std::slice::from_ref(taken), to, &|| false)
}
