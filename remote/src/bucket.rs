//! Buckets: S3 and what speaks like it.
//!
//! A blob is written only where there is none of its name, if the service honours that; it is asked once, with an object of its own.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{Error, ObjectStore, PutMode, PutOptions, WriteMultipart};
use tokio::sync::OnceCell;

use crate::Secret;

/// Objects up to this size are sent in one request, larger ones in parts of this size.
const PART: u64 = 16 << 20;
/// Parts of one object on their way at once.
const PARTS_AT_ONCE: usize = 4;

/// What is known of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BucketOptions {
    /// Its name.
    pub name: String,
    /// The address of the service; that of its owner where there is none.
    pub endpoint: Option<String>,
    /// Whether the bucket's name is part of the path, not of the host's name.
    pub path_style: bool,
    /// Everything else: `region`, `access_key_id` and so on.
    pub settings: Vec<(String, Secret)>,
}

/// A bucket could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BucketError {
    /// What is known of it is not enough, or wrong.
    #[error("the bucket `{bucket}` cannot be used")]
    Settings {
        /// Its name.
        bucket: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The service refused, or did not answer.
    #[error("cannot {action} `{key}` of the bucket")]
    Object {
        /// What was tried.
        action: &'static str,
        /// The object.
        key: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// What was to be written could not be read.
    #[error("cannot read what is to be written to `{key}`")]
    Content {
        /// The object.
        key: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A bucket.
#[derive(Clone)]
pub struct Bucket {
    name: String,
    store: Arc<AmazonS3>,
    honours_create: Arc<OnceCell<bool>>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the store, which holds keys.
        f.debug_tuple("Bucket").field(&self.name).finish()
    }
}

impl Bucket {
    /// Opens a bucket; nothing is asked yet.
    pub fn open(options: &BucketOptions) -> Result<Self, BucketError> {
        let failed =
            |source| BucketError::Settings { bucket: options.name.clone(), source: Box::new(source) };
        let mut builder = AmazonS3Builder::new().with_bucket_name(&options.name);
        builder = builder.with_virtual_hosted_style_request(!options.path_style);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_allow_http(endpoint.starts_with("http://")).with_endpoint(endpoint);
        }
        for (key, value) in &options.settings {
            let key: AmazonS3ConfigKey = key.parse().map_err(failed)?;
            builder = builder.with_config(key, value.expose());
        }
        let store = Arc::new(builder.build().map_err(failed)?);
        Ok(Self { name: options.name.clone(), store, honours_create: Arc::default() })
    }

    /// Reads an object whole; `None` when there is none.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, BucketError> {
        let failed = |source| failed("read", key, source);
        match self.store.get(&Path::from(key)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(failed),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Opens an object.
    pub async fn stream(&self, key: &str) -> Result<BoxStream<'static, io::Result<Bytes>>, BucketError> {
        let found = self.store.get(&Path::from(key)).await.map_err(|error| failed("read", key, error))?;
        Ok(found.into_stream().map_err(io::Error::other).boxed())
    }

    /// Returns the length of an object; `None` when there is none.
    pub async fn size(&self, key: &str) -> Result<Option<u64>, BucketError> {
        match self.store.head(&Path::from(key)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("look at", key, error)),
        }
    }

    /// Writes an object of `size` bytes; one that is there already may stay.
    pub async fn write(
        &self,
        key: &str,
        size: u64,
        mut content: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<(), BucketError> {
        let unreadable = |source| BucketError::Content { key: key.to_owned(), source };
        if size <= PART {
            let pieces: Vec<Bytes> = content.try_collect().await.map_err(unreadable)?;
            return self.create(key, pieces.concat().into()).await;
        }
        let failed = |source| failed("write", key, source);
        let upload = self.store.put_multipart(&Path::from(key)).await.map_err(failed)?;
        // Its parts are what the sizes of requests are made of.
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART as usize);
        loop {
            match content.try_next().await {
                Ok(Some(piece)) => {
                    writer.wait_for_capacity(PARTS_AT_ONCE).await.map_err(failed)?;
                    writer.write(&piece);
                }
                Ok(None) => return writer.finish().await.map(drop).map_err(failed),
                Err(error) => {
                    // The service drops what was sent by itself, sooner or later.
                    let _ = writer.abort().await;
                    return Err(unreadable(error));
                }
            }
        }
    }

    /// Writes an object whatever is there.
    pub async fn replace(&self, key: &str, bytes: Bytes) -> Result<(), BucketError> {
        let put = self.store.put(&Path::from(key), bytes.into()).await;
        put.map(drop).map_err(|error| failed("write", key, error))
    }

    /// Lists the objects whose names begin with `prefix` and a slash; names are given without them.
    pub async fn list(&self, prefix: &str) -> Result<Vec<String>, BucketError> {
        let path = Path::from(prefix);
        let start = format!("{path}/");
        let found: Vec<_> = self
            .store
            .list(Some(&path))
            .try_collect()
            .await
            .map_err(|error| failed("list", prefix, error))?;
        let name = |key: String| key.strip_prefix(&start).map(str::to_owned);
        Ok(found.into_iter().filter_map(|object| name(object.location.to_string())).collect())
    }

    /// Takes an object away; that there is none is fine.
    pub async fn delete(&self, key: &str) -> Result<(), BucketError> {
        match self.store.delete(&Path::from(key)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete", key, error)),
        }
    }

    async fn create(&self, key: &str, bytes: Bytes) -> Result<(), BucketError> {
        let honours = self.honours_create.get_or_try_init(|| self.probe(key)).await?;
        if !honours {
            return self.replace(key, bytes).await;
        }
        match self.put_new(key, bytes).await {
            Ok(()) | Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
            Err(error) => Err(failed("write", key, error)),
        }
    }

    async fn put_new(&self, key: &str, bytes: Bytes) -> object_store::Result<()> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store.put_opts(&Path::from(key), bytes.into(), options).await.map(drop)
    }

    /// Finds out whether the service refuses to write what is there: not all that speak like S3 do.
    async fn probe(&self, beside: &str) -> Result<bool, BucketError> {
        // A name nobody else has: the keys of the hasher are random.
        let key = format!("{beside}.probe-{:016x}", RandomState::new().build_hasher().finish());
        let failed = |source| failed("write", &key, source);
        match self.put_new(&key, Bytes::from_static(b"1")).await {
            Ok(()) => {}
            Err(Error::NotImplemented | Error::NotSupported { .. }) => return Ok(false),
            Err(error) => return Err(failed(error)),
        }
        let again = self.put_new(&key, Bytes::from_static(b"2")).await;
        self.delete(&key).await?;
        let honours = match again {
            Ok(()) | Err(Error::NotImplemented | Error::NotSupported { .. }) => false,
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => true,
            Err(error) => return Err(failed(error)),
        };
        tracing::debug!(honours, "whether the bucket honours writes of new objects only");
        Ok(honours)
    }
}

fn failed(action: &'static str, key: &str, source: Error) -> BucketError {
    BucketError::Object { action, key: key.to_owned(), source: Box::new(source) }
}
