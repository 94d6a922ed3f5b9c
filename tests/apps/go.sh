# seconds: 240
# needs: /usr/bin/go
export GOFLAGS=-mod=mod GOTOOLCHAIN=local GOCACHE=$HOME/cache GOPATH=$HOME/path GO111MODULE=on
mkdir h; cd h; printf 'module h\ngo 1.19\n' > go.mod
cat > main.go <<'EOF'
package main
import ("fmt"; "os"; "os/exec"; "os/signal"; "sync"; "syscall"; "time"; "runtime")
func main() {
	var wg sync.WaitGroup; var mu sync.Mutex; n := 0
	for i := 0; i < 100; i++ { wg.Add(1); go func() { defer wg.Done(); for k := 0; k < 100; k++ { mu.Lock(); n++; mu.Unlock(); runtime.Gosched() } }() }
	wg.Wait(); fmt.Println("hello", n)
	c := make(chan int); go func() { for i := 0; i < 1000; i++ { c <- i }; close(c) }(); s := 0; for v := range c { s += v }; fmt.Println(s)
	sig := make(chan os.Signal, 1); signal.Notify(sig, syscall.SIGUSR1); syscall.Kill(os.Getpid(), syscall.SIGUSR1); fmt.Println(<-sig)
	out, err := exec.Command("sh", "-c", "echo sub; exit 3").Output(); fmt.Print(string(out)); fmt.Println(err)
	t := time.NewTicker(2 * time.Millisecond); for i := 0; i < 5; i++ { <-t.C }; fmt.Println("ticked")
	done := make(chan bool); go func() { for x := 0; x < 300000000; x++ {}; done <- true }(); select { case <-done: case <-time.After(20 * time.Second): fmt.Println("slow") }
	defer func() { fmt.Println(recover()); os.Exit(6) }(); var p *int; *p = 1
}
EOF
go build -o hello . && ./hello; echo $?; go vet . ; go version | cut -d' ' -f1,2
