package chaos

import "testing"

const reportPath = "testdata/report.json"

func TestDocs(t *testing.T) { t.Skip() }
