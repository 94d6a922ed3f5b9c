# seconds: 150
# needs: /usr/bin/stress-ng
# may-differ: it prints its own times
for s in fork mmap futex pipe switch; do
  stress-ng --$s 2 --timeout 10s --temp-path . > out 2>&1; r=$?
  echo "$s $r"; grep -iE 'fail|error|unsuccessful' out | grep -viE 'failed: 0|0 failed'
  test $r -eq 0 || { cat out; exit 1; }
  if grep -qE 'unsuccessful run|FAIL:' out; then cat out; exit 1; fi
done
