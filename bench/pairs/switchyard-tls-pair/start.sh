# Two routers in series with mutual TLS between them, both on the proxy core. SWITCHYARD is the binary; run.sh sets it.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=web -addext subjectAltName=DNS:web \
  -keyout @DIR@/key.pem -out @DIR@/cert.pem
mkdir -p @DIR@/in @DIR@/out
echo '127.0.0.1 @BACKEND@' > @DIR@/in/web
echo '127.0.0.1 @P2@' > @DIR@/out/web
"$SWITCHYARD" --workers 1 --log-level WARNING @DIR@/incoming.yaml &
exec "$SWITCHYARD" --workers 1 --log-level WARNING @DIR@/outgoing.yaml
