# Two routers in series, as on two hosts, both on the proxy core. SWITCHYARD is the binary; run.sh sets it.
mkdir -p @DIR@/in @DIR@/out
echo '127.0.0.1 @BACKEND@' > @DIR@/in/web
echo '127.0.0.1 @P2@' > @DIR@/out/web
"$SWITCHYARD" --workers 1 --log-level WARNING @DIR@/incoming.yaml &
exec "$SWITCHYARD" --workers 1 --log-level WARNING @DIR@/outgoing.yaml
