# Two Envoys in series with mutual TLS between them, both on the proxy core.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=web -addext subjectAltName=DNS:web \
  -keyout @DIR@/key.pem -out @DIR@/cert.pem
envoy -c @DIR@/incoming.yaml --concurrency 1 --disable-hot-restart -l error &
exec envoy -c @DIR@/outgoing.yaml --concurrency 1 --disable-hot-restart -l error
