"""One module per kind of log, named `vendor_product`; each exports `MAPPER`."""
