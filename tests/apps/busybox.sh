# seconds: 60
# needs: /bin/busybox
exec 2>&1
b=/bin/busybox
$b sh -c 'i=0; while [ $i -lt 200 ]; do i=$((i+1)); done; echo $i; echo a b c | '$b' tr " " "\n" | '$b' sort -r | '$b' head -2'
$b seq 1 100 | $b awk '{s+=$1} END {print s}'; $b ls -l /bin/busybox | $b awk '{print $1, $5}'; $b find /usr/include/linux -name 's*.h' | $b sort | $b sha256sum
$b mkdir -p a/b; $b cp /etc/passwd a/b/p; $b tar cf t.tar a; $b tar tf t.tar; $b gzip -c a/b/p | $b gunzip | $b cmp - /etc/passwd && echo same
$b dd if=/dev/zero bs=1k count=100 2>/dev/null | $b wc -c; $b sh -c 'kill -TERM $$; sleep 1'; echo $?; $b sh -c 'sleep 5 & kill $!; wait $!; echo $?' 2>/dev/null
$b ps | $b grep -c busybox | $b grep -c .; $b uname -s; $b stat -c %s /etc/passwd; $b vi --help >/dev/null 2>&1; $b timeout 1 $b sleep 5; echo $?; $b nohup $b true; $b test -t 0; echo $?; $b env -i $b env; $b false; echo $?
