# Two nginx in series with mutual TLS between them, both on the proxy core.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=web -addext subjectAltName=DNS:web \
  -keyout @DIR@/key.pem -out @DIR@/cert.pem
nginx -c @DIR@/incoming.conf -p @DIR@ -e stderr &
exec nginx -c @DIR@/outgoing.conf -p @DIR@ -e stderr
