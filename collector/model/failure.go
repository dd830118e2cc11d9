package model

// Failure is an error of a request, as the log reports it.
type Failure struct {
	Endpoint string // of the Engine API, which a socket proxy has to allow; empty if none was requested
	Reason   string // what happened, the same text as long as the cause is the same
	Hint     string // what to do about it
	Err      error
}

func (f *Failure) Error() string { return f.Reason }
func (f *Failure) Unwrap() error { return f.Err }
