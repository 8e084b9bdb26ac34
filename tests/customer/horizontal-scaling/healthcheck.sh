wget -q --spider http://localhost:4000/readyz
