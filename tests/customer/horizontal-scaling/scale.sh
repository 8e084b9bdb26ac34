docker compose up -d --scale chatto=5
