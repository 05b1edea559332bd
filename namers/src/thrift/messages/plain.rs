//! Questions, answers and facts as bytes: the structs without nodes.
//!
//! Called through [`Wire`]. Not for: trees.

use super::{
    AddrMeta, AddrReply, AddrReq, BindReq, BoundAddr, DelegateReq, Delegation, DtabRef, DtabReq, Failure, NameRef,
    Stamp, TransportAddress,
};
use crate::thrift::binary::{Reader, Wire, WireError, Writer, kind};
use dtab::Path;

pub(super) fn write_path(out: &mut Writer, id: i16, path: &Path) {
    out.field(kind::LIST, id);
    out.list(kind::STRING, path.len());
    path.labels().for_each(|label| out.string(label));
}

pub(super) fn read_path(from: &mut Reader<'_>) -> Result<Path, WireError> {
    let labels = from.values(kind::STRING, Reader::bytes)?;
    Path::from_labels(labels).map_err(|_| WireError::malformed("a path has an empty label"))
}

pub(super) fn absent(what: &str) -> WireError {
    WireError::malformed(format!("{what} is missing"))
}

impl Wire for NameRef {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, &self.stamp);
        write_path(out, 2, &self.name);
        out.string_field(3, self.ns.as_bytes());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<NameRef, WireError> {
        let mut name = NameRef::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => name.stamp = from.bytes()?.to_vec(),
                (2, kind::LIST) => name.name = read_path(from)?,
                (3, kind::STRING) => name.ns = from.text()?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(name)
    }
}

impl Wire for BindReq {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, self.dtab.as_bytes());
        out.struct_field(2, &self.name);
        write_path(out, 3, &Path::empty());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<BindReq, WireError> {
        let mut request = BindReq::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => request.dtab = from.text()?,
                (2, kind::STRUCT) => request.name = NameRef::read(from)?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(request)
    }
}

impl Wire for AddrReq {
    fn write(&self, out: &mut Writer) {
        out.struct_field(1, &self.0);
        write_path(out, 2, &Path::empty());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<AddrReq, WireError> {
        let mut request = AddrReq::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRUCT) => request.0 = NameRef::read(from)?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(request)
    }
}

impl Wire for DtabReq {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, &self.stamp);
        out.string_field(2, self.ns.as_bytes());
        write_path(out, 3, &Path::empty());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<DtabReq, WireError> {
        let mut request = DtabReq::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => request.stamp = from.bytes()?.to_vec(),
                (2, kind::STRING) => request.ns = from.text()?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(request)
    }
}

impl Wire for DelegateReq {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, self.dtab.as_bytes());
        out.struct_field(2, &self.delegation);
        write_path(out, 3, &Path::empty());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<DelegateReq, WireError> {
        let (mut dtab, mut delegation) = (String::new(), None);
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => dtab = from.text()?,
                (2, kind::STRUCT) => delegation = Some(Delegation::read(from)?),
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(DelegateReq { dtab, delegation: delegation.ok_or_else(|| absent("the name to explain"))? })
    }
}

impl Wire for AddrMeta {
    fn write(&self, out: &mut Writer) {
        if let Some(authority) = &self.authority {
            out.string_field(1, authority.as_bytes());
        }
        if let Some(node_name) = &self.node_name {
            out.string_field(2, node_name.as_bytes());
        }
        if let Some(weight) = self.weight {
            out.field(kind::DOUBLE, 3);
            out.double(weight);
        }
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<AddrMeta, WireError> {
        let mut meta = AddrMeta::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => meta.authority = Some(from.text()?),
                (2, kind::STRING) => meta.node_name = Some(from.text()?),
                (3, kind::DOUBLE) => meta.weight = Some(from.double()?),
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(meta)
    }
}

impl Wire for TransportAddress {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, &self.ip);
        out.field(kind::I32, 2);
        out.i32(self.port);
        if let Some(meta) = &self.meta {
            out.struct_field(3, meta);
        }
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<TransportAddress, WireError> {
        let mut address = TransportAddress::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => address.ip = from.bytes()?.to_vec(),
                (2, kind::I32) => address.port = from.i32()?,
                (3, kind::STRUCT) => address.meta = Some(AddrMeta::read(from)?),
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(address)
    }
}

impl Wire for BoundAddr {
    fn write(&self, out: &mut Writer) {
        out.field(kind::SET, 1);
        out.list(kind::STRUCT, self.addresses.len());
        self.addresses.iter().for_each(|address| address.write(out));
        if let Some(meta) = &self.meta {
            out.struct_field(2, meta);
        }
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<BoundAddr, WireError> {
        let mut bound = BoundAddr::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::SET | kind::LIST) => bound.addresses = from.values(kind::STRUCT, TransportAddress::read)?,
                (2, kind::STRUCT) => bound.meta = Some(AddrMeta::read(from)?),
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(bound)
    }
}

impl Wire for AddrReply {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, &self.stamp);
        out.field(kind::STRUCT, 2);
        match &self.bound {
            Some(bound) => out.struct_field(1, bound),
            None => out.void_field(2),
        }
        out.stop();
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<AddrReply, WireError> {
        let (mut stamp, mut value) = (Stamp::new(), None);
        from.fields(|from, kind, id| match (id, kind) {
            (1, kind::STRING) => {
                stamp = from.bytes()?.to_vec();
                Ok(())
            }
            (2, kind::STRUCT) => from.fields(|from, kind, id| {
                match (id, kind) {
                    (1, kind::STRUCT) => value = Some(Some(BoundAddr::read(from)?)),
                    (2, kind::STRUCT) => {
                        from.skip(kind)?;
                        value = Some(None);
                    }
                    _ => from.skip(kind)?,
                }
                Ok(())
            }),
            _ => from.skip(kind),
        })?;
        Ok(AddrReply { stamp, bound: value.ok_or_else(|| absent("the state of the addresses"))? })
    }
}

impl Wire for Failure {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, self.reason.as_bytes());
        if let Some(name) = &self.name {
            out.field(kind::I32, 2);
            out.i32(0);
            out.struct_field(3, name);
        }
        if let Some(ns) = &self.ns {
            out.string_field(4, ns.as_bytes());
        }
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<Failure, WireError> {
        let mut failure = Failure::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => failure.reason = from.text()?,
                (3, kind::STRUCT) => failure.name = Some(NameRef::read(from)?),
                (4, kind::STRING) => failure.ns = Some(from.text()?),
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(failure)
    }
}

impl Wire for DtabRef {
    fn write(&self, out: &mut Writer) {
        out.string_field(1, &self.stamp);
        out.string_field(2, self.dtab.as_bytes());
        out.stop();
    }

    fn read(from: &mut Reader<'_>) -> Result<DtabRef, WireError> {
        let mut dtab = DtabRef::default();
        from.fields(|from, kind, id| {
            match (id, kind) {
                (1, kind::STRING) => dtab.stamp = from.bytes()?.to_vec(),
                (2, kind::STRING) => dtab.dtab = from.text()?,
                _ => from.skip(kind)?,
            }
            Ok(())
        })?;
        Ok(dtab)
    }
}
