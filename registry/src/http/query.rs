use std::{num::IntErrorKind, str::FromStr};

use axum::extract::FromRequestParts;
use http::{Uri, request::Parts};
use percent_encoding::percent_decode_str;
use registry_wire::{FieldError, InstanceId, ServiceName};

use super::Failure;
use crate::entry::Key;

/// The parameters of a query, in order.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    /// The value of a parameter.
    ///
    /// # Errors
    /// It stands twice.
    pub(super) fn get(&self, name: &'static str) -> Result<Option<&str>, FieldError> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next();
        if values.next().is_some() {
            return Err(FieldError::new(name, "stands twice"));
        }
        Ok(value)
    }

    /// The value of a parameter, parsed.
    ///
    /// # Errors
    /// It stands twice, or breaks its type's rule; the error names the parameter.
    pub(super) fn parse<T: FromStr<Err = FieldError>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, FieldError> {
        self.get(name)?
            .map(|value| value.parse().map_err(|error: FieldError| FieldError::new(name, error.rule())))
            .transpose()
    }

    /// A flag.
    ///
    /// # Errors
    /// It is neither `true` nor `false`.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, FieldError> {
        match self.get(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(FieldError::new(name, "must be true or false")),
        }
    }

    /// How many to list. Without a `max`, more than there can be is no mistake.
    ///
    /// # Errors
    /// It is not a number of 1 to `max`.
    pub(super) fn limit(&self, default: usize, max: Option<usize>) -> Result<usize, FieldError> {
        let Some(text) = self.get("limit")? else {
            return Ok(default);
        };
        let limit = match text.parse::<usize>() {
            Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(usize::MAX),
            parsed => parsed.ok(),
        };
        limit.filter(|limit| (1..=max.unwrap_or(usize::MAX)).contains(limit)).ok_or_else(|| {
            let most = max.map_or_else(|| "or more".to_owned(), |max| format!("to {max}"));
            FieldError::new("limit", format!("must be a number of 1 {most}"))
        })
    }

    /// Parameters whose name begins with `prefix`, without it.
    pub(super) fn prefixed<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }
}

/// The service that a path names.
#[derive(Debug)]
pub(super) struct ServicePath(pub(super) ServiceName);

impl<S: Sync> FromRequestParts<S> for ServicePath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(segment(&parts.uri, 1, ServiceName::FIELD)?))
    }
}

/// `/services/{service}/instances/{instance}` and what is below.
impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self {
            service: segment(&parts.uri, 1, ServiceName::FIELD)?,
            instance: segment(&parts.uri, 3, InstanceId::FIELD)?,
        })
    }
}

/// A part of the path, percent-decoded once, after the path was split: an encoded slash separates nothing.
pub(super) fn segment<T: FromStr<Err = FieldError>>(
    uri: &Uri,
    place: usize,
    field: &'static str,
) -> Result<T, Failure> {
    let raw = uri.path().split('/').nth(place + 1).unwrap_or_default();
    let text = percent_decode_str(raw)
        .decode_utf8()
        .map_err(|_| FieldError::new(field, "must be UTF-8 after percent-decoding"))?;
    Ok(text.parse::<T>()?)
}
