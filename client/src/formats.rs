//! Typed values, by serde: as JSON, which everybody reads (feature `json`), or in
//! [postcard](https://postcard.jamesmunns.com)'s compact binary form (feature `postcard`).
//!
//! A format is two functions: one makes the bytes that any operation takes, one reads the bytes that
//! any operation gives.

/// Bytes that are not what they should be, or a value that the format cannot write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{of} {cannot} {format}: {why}")]
pub struct FormatError {
    /// The type.
    of: &'static str,
    /// What it cannot be, as far as the name of the format.
    cannot: &'static str,
    format: &'static str,
    why: String,
}

#[cfg(any(feature = "json", feature = "postcard"))]
impl FormatError {
    fn reading<T>(format: &'static str, why: impl ToString) -> Self {
        Self::new::<T>("cannot be read from this", format, why)
    }

    fn writing<T: ?Sized>(format: &'static str, why: impl ToString) -> Self {
        Self::new::<T>("cannot be written as", format, why)
    }

    fn new<T: ?Sized>(cannot: &'static str, format: &'static str, why: impl ToString) -> Self {
        let (of, why) = (std::any::type_name::<T>(), why.to_string());
        Self {
            of,
            cannot,
            format,
            why,
        }
    }
}

#[cfg(feature = "json")]
pub mod json {
    //! Values as JSON.
    //!
    //! ```no_run
    //! # #[derive(serde::Serialize, serde::Deserialize)] struct User { name: String }
    //! # async fn example(client: larder_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    //! use larder_client::json;
    //!
    //! let ada = User { name: "ada".to_owned() };
    //! client.set("user:17", json::to_bytes(&ada)?).await?;
    //! if let Some(item) = client.get("user:17").await? {
    //!     let user: User = item.json()?;
    //! }
    //! # Ok(())
    //! # }
    //! ```

    use bytes::Bytes;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::FormatError;
    use crate::Item;

    const FORMAT: &str = "JSON";

    /// A value as JSON.
    ///
    /// # Errors
    ///
    /// The value has no form in JSON, such as a map whose keys are no strings.
    pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, FormatError> {
        serde_json::to_vec(value)
            .map(Bytes::from)
            .map_err(|error| FormatError::writing::<T>(FORMAT, error))
    }

    /// The value that JSON stands for.
    ///
    /// # Errors
    ///
    /// The bytes are no JSON, or that of another type.
    pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
        serde_json::from_slice(bytes).map_err(|error| FormatError::reading::<T>(FORMAT, error))
    }

    impl Item {
        /// The value, which is JSON.
        ///
        /// # Errors
        ///
        /// The value is no JSON, or that of another type.
        pub fn json<T: DeserializeOwned>(&self) -> Result<T, FormatError> {
            from_bytes(&self.value)
        }
    }
}

#[cfg(feature = "postcard")]
pub mod postcard {
    //! Values in postcard's form: small and quick, and read only by those who know the type.
    //!
    //! ```no_run
    //! # #[derive(serde::Serialize, serde::Deserialize)] struct User { name: String }
    //! # async fn example(client: larder_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    //! use larder_client::postcard;
    //!
    //! let ada = User { name: "ada".to_owned() };
    //! client.set("user:17", postcard::to_bytes(&ada)?).await?;
    //! if let Some(item) = client.get("user:17").await? {
    //!     let user: User = item.postcard()?;
    //! }
    //! # Ok(())
    //! # }
    //! ```

    use bytes::Bytes;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::FormatError;
    use crate::Item;

    const FORMAT: &str = "postcard";

    /// A value in postcard's form.
    ///
    /// # Errors
    ///
    /// The value has no such form, such as a sequence of unknown length.
    pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, FormatError> {
        ::postcard::to_allocvec(value)
            .map(Bytes::from)
            .map_err(|error| FormatError::writing::<T>(FORMAT, error))
    }

    /// The value that bytes in postcard's form stand for.
    ///
    /// # Errors
    ///
    /// The bytes are not of this type, or there are too many of them.
    pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
        match ::postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => {
                let why = format!("bytes left over: {}", rest.len());
                Err(FormatError::reading::<T>(FORMAT, why))
            }
            Err(error) => Err(FormatError::reading::<T>(FORMAT, error)),
        }
    }

    impl Item {
        /// The value, which is in postcard's form.
        ///
        /// # Errors
        ///
        /// The value is not of this type.
        pub fn postcard<T: DeserializeOwned>(&self) -> Result<T, FormatError> {
            from_bytes(&self.value)
        }
    }
}

#[cfg(all(test, feature = "json", feature = "postcard"))]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::{json, postcard};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct User {
        name: String,
        visits: u64,
    }

    #[test]
    fn a_value_comes_back_as_it_was() {
        let ada = User {
            name: "ada".to_owned(),
            visits: 300,
        };
        let text = json::to_bytes(&ada).expect("JSON");
        assert_eq!(text, r#"{"name":"ada","visits":300}"#);
        assert_eq!(json::from_bytes(&text).as_ref(), Ok(&ada));
        let compact = postcard::to_bytes(&ada).expect("postcard");
        assert_eq!(compact, &b"\x03ada\xac\x02"[..]);
        assert_eq!(postcard::from_bytes(&compact).as_ref(), Ok(&ada));
    }

    #[test]
    fn what_is_of_another_type_is_refused() {
        assert!(json::from_bytes::<User>(b"[1, 2]").is_err());
        assert!(json::from_bytes::<User>(b"{\"name\":").is_err());
        assert!(postcard::from_bytes::<User>(b"\x03ad").is_err());
        let rest = postcard::from_bytes::<u8>(b"\x01\x02").expect_err("too long");
        assert_eq!(
            rest.to_string(),
            "u8 cannot be read from this postcard: bytes left over: 1"
        );
        let error = json::from_bytes::<User>(br#"{"name":"ada"}"#).expect_err("half of it");
        let error = error.to_string();
        assert!(
            error.contains("User cannot be read from this JSON"),
            "{error}"
        );
        assert!(error.contains("missing field `visits`"), "{error}");
    }
}
