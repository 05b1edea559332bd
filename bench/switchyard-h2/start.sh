# Starts the router under test on one worker with a discovery file that names the origin.
# SWITCHYARD is the binary; run.sh sets it.
mkdir -p @DIR@/disco
echo '127.0.0.1 @BACKEND@' > @DIR@/disco/web
exec "$SWITCHYARD" --workers 1 --log-level WARNING @DIR@/router.yaml
